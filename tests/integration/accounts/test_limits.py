"""Limits of accounts: what is refused, and what is charged."""

import json
from typing import Any
from uuid import UUID

import pytest

from apps.accounts import limits, services
from tests.support.accounts import AUTHOR, ask, key_of
from tests.support.api import GOOD
from tests.support.limits import FAR, Team, failed
from tests.support.rows import claimed
from tests.support.timers import execute, value_of

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")

LINES = "application/x-ndjson"


def answered(answer: Any) -> Any:
    """Return the JSON of an answer that may be a stream."""
    return json.loads(b"".join(answer))


def test_the_next_timer_beyond_the_limit_is_refused(team: Team) -> None:
    team.limit(outstanding=2)
    first = team.set()
    assert first.status_code == 201
    assert first["RateLimit-Policy"] == '"outstanding";q=2'
    assert first["RateLimit"] == '"outstanding";r=1'
    assert "Retry-After" not in first.headers
    assert team.set()["RateLimit"] == '"outstanding";r=0;t=1'

    # When there are as many as there may be, Then the next one is refused
    refused = team.set()
    assert refused.status_code == 429
    assert refused["Retry-After"] == "1"
    assert refused["RateLimit"] == '"outstanding";r=0;t=1'
    assert "2 timers that have not ended" in refused.json()["detail"]
    assert team.living() == 2

    # When one has ended, Then another one may be set
    path = f"/timer/{first.json()['id']}"
    assert team.ask("DELETE", path).status_code == 204
    assert team.set().status_code == 201
    assert team.set().status_code == 429


def test_no_more_are_set_a_second_than_allowed(team: Team) -> None:
    team.limit(creates_per_second=1, burst=3)
    team.stop_time()
    answers = [team.set() for _ in range(4)]
    assert [each.status_code for each in answers] == [201, 201, 201, 429]
    assert answers[0]["RateLimit-Policy"] == '"creates";q=3;w=3'
    assert [each["RateLimit"] for each in answers] == [
        '"creates";r=2', '"creates";r=1', '"creates";r=0;t=1',
        '"creates";r=0;t=1',
    ]
    assert answers[3]["Retry-After"] == "1"
    assert "1 timers a second" in answers[3].json()["detail"]

    # When time passes, Then the bucket is filled, up to the burst
    for passed, tokens in ("1.01 s", 1), ("1 day", 3):
        execute(
            "UPDATE account_limit SET filled_at = now() - %s::interval", passed
        )
        assert team.set().status_code == 201
        team.stop_time()
        codes = [team.set().status_code for _ in range(tokens)]
        assert codes == [201] * (tokens - 1) + [429]


@pytest.mark.parametrize("limit", [
    {"outstanding": 1}, {"creates_per_second": 1, "burst": 1},
], ids=lambda limit: next(iter(limit)))
def test_a_repeated_request_is_not_charged(
    team: Team, limit: dict[str, int]
) -> None:
    team.limit(**limit)
    team.stop_time()
    first = team.set(**{"idempotency-key": "one"})
    assert first.status_code == 201

    # When nothing is left, Then a repetition is answered, and no new request
    again = team.set(**{"idempotency-key": "one"})
    assert (again.status_code, again.json()) == (200, first.json())
    other = team.set(**{"idempotency-key": "two"})
    assert other.status_code == 429
    team.limit(outstanding=2, creates_per_second=1, burst=1)
    team.stop_time()
    for _ in range(3):
        assert team.set(**{"idempotency-key": "one"}).status_code == 200
    made = team.set(**{"idempotency-key": "two"})
    assert made.status_code == 201
    assert team.living() == 2


def test_a_key_that_is_in_use_is_not_charged(team: Team) -> None:
    team.limit(outstanding=2)
    named = FAR | {"key": "order 17"}
    assert team.set(named).status_code == 201
    for _ in range(3):
        assert team.set(named).status_code == 409
    assert team.set(FAR | {"key": "order 18"}).status_code == 201
    assert team.set(FAR | {"key": "order 19"}).status_code == 429


def test_put_is_charged_only_if_it_sets_a_timer(team: Team) -> None:
    team.limit(creates_per_second=1, burst=1)
    team.stop_time()

    def put(key: str) -> Any:
        return team.ask("PUT", f"/timer/by-key/{key}", FAR)

    assert put("a").status_code == 201
    assert put("a").status_code == 200
    refused = put("b")
    assert refused.status_code == 429
    assert refused["RateLimit"] == '"creates";r=0;t=1'

    # Then no key is left behind by who was refused
    assert team.set(FAR | {"key": "c"}).status_code == 429
    keys = value_of("SELECT json_agg(key) FROM timer_key")
    assert keys == ["a"]
    assert put("a").status_code == 200


@pytest.mark.parametrize("as_lines", [False, True])
def test_of_many_timers_those_within_the_limit_are_set(
    team: Team, as_lines: bool
) -> None:
    team.limit(outstanding=4)
    items = [FAR | {"key": "a"}, FAR, {"bad": 1}, FAR | {"key": "a"}, FAR,
             FAR, FAR]

    def post() -> list[dict[str, Any]]:
        headers = {"idempotency-key": "all"}
        if as_lines:
            text = "\n".join(map(json.dumps, items))
            answer = team.ask(
                "POST", "/timers", text, **headers, content_type=LINES
            )
            assert answer["RateLimit"] == '"outstanding";r=0;t=1'
            return [json.loads(each) for each in b"".join(answer).split(b"\n")
                    if each]
        found: list[dict[str, Any]] = answered(
            team.ask("POST", "/timers", items, **headers)
        )
        return found

    # When some are not valid, or have a key that is in use
    found = post()

    # Then others have their place, in their order
    assert ["id" in each and "errors" not in each for each in found] == [
        True, True, False, False, True, True, False
    ]
    (error,) = found[-1]["errors"]
    assert error["field"] == "account"
    assert "4 timers that have not ended" in error["message"]
    assert team.living() == 4

    # And a repetition has the same answers, and charges nothing
    assert post() == found
    assert team.living() == 4


def test_a_replayed_timer_is_outstanding_again(team: Team) -> None:
    timers = [failed(team) for _ in range(3)]
    team.limit(outstanding=2, creates_per_second=1, burst=1)
    team.stop_time()

    def replay(body: object) -> Any:
        return team.ask("POST", "/timers/replay", body)

    # When more are replayed than there is room for, Then none is
    refused = replay({"ids": timers})
    assert refused.status_code == 429
    assert refused["Retry-After"] == "1"
    assert "room for 2 more" in refused.json()["detail"]
    assert team.living() == 0

    # When there is room, Then they are opened, whatever a second allows
    path = f"/timer/{timers[0]}/replay"
    assert team.ask("POST", path).status_code == 202
    assert replay({"ids": timers[1:2]}).json()["replayed"] == 1
    left = team.ask("GET", "/account/limits").json()
    assert (left["outstanding_now"], left["creates_left"]) == (2, 1)
    path = f"/timer/{timers[2]}/replay"
    assert team.ask("POST", path).status_code == 429
    assert team.living() == 2
    assert team.set().status_code == 429


def test_calls_under_way_and_retries_are_outstanding(team: Team) -> None:
    for who in (team, team, Team("other")):
        claimed(UUID(who.set(GOOD | {"seconds": 0}).json()["id"]))
    team.set()
    execute("UPDATE timer SET attempts = 1 WHERE fired_at IS NULL")
    failed(team)
    team.limit(outstanding=4)
    assert team.set().status_code == 201
    assert team.set().status_code == 429


def test_a_body_that_is_too_long_is_refused(team: Team) -> None:
    team.limit(body_bytes=200)
    long = FAR | {"body": "x" * 200}
    made = team.set(FAR | {"key": "a"})
    assert made.status_code == 201
    assert "RateLimit" not in made.headers
    path = f"/timer/{made.json()['id']}"
    for answer in (
        team.set(long),
        team.ask("PUT", "/timer/by-key/a", long),
        team.ask("PATCH", path, {"body": "x" * 200}),
        team.ask("PATCH", "/timer/by-key/a", {"body": "x" * 200}),
    ):
        assert answer.status_code == 413
        assert "200 bytes" in answer.json()["detail"]
    good, bad = answered(team.ask("POST", "/timers", [FAR, long]))
    assert "id" in good
    assert "200 bytes" in bad["errors"][0]["message"]
    assert team.living() == 2


def test_an_account_sees_its_own_limits(team: Team) -> None:
    none = dict.fromkeys(
        ["outstanding", "creates_per_second", "burst", "body_bytes",
         "outstanding_now", "creates_left"]
    )
    assert team.ask("GET", "/account/limits").json() == none
    team.limit(outstanding=5, creates_per_second=2, burst=4, body_bytes=999)
    team.stop_time()
    team.set()
    assert team.ask("GET", "/account/limits").json() == {
        "outstanding": 5, "creates_per_second": 2, "burst": 4,
        "body_bytes": 999, "outstanding_now": 1, "creates_left": 3,
    }
    other = Team("other")
    assert other.ask("GET", "/account/limits").json() == none
    reader = key_of(team.id, ["read", "write"])
    assert ask("GET", "/account/limits", key=reader).status_code == 403


def test_no_page_breaks_by_a_limit(team: Team) -> None:
    timer = failed(team)
    team.limit(outstanding=1)
    assert team.set().status_code == 201
    page = team.ask("POST", f"/dashboard/timer/{timer}/replay")
    assert page.status_code == 429
    assert page["Retry-After"] == "1"
    assert "1 timers that have not ended" in page.content.decode()


def test_without_limits_no_headers_are_left(team: Team) -> None:
    team.limit(outstanding=5)
    assert "RateLimit" in team.set().headers
    services.change_limits("team", {"outstanding": None}, AUTHOR)
    limits._known.forget()
    assert value_of("SELECT count(*) FROM account_limit") == 0
    assert "RateLimit" not in team.set().headers

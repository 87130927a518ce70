"""What gave up, over the API: attempts, the list, and replaying."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pytest_django import Settings

from apps.timers.firing import fire
from apps.timers.models import GAVE_UP, Outcome
from apps.timers.storage import changing, recording, replaying
from tests.support.accounts import OWNER
from tests.support.api import look, send
from tests.support.receiver import Receiver
from tests.support.rows import (
    change,
    claimed,
    given_up,
    new_timer,
    new_timers,
    postponement,
    report,
    row,
)

MOMENT = "2026-03-01T12:00:00"


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def listed(*status: str, **query: object) -> list[str]:
    answer = look("/timers", *status, **query)
    assert answer.status_code == 200, answer.content
    return [timer["id"] for timer in answer.json()["timers"]]


def bulk(**body: object) -> dict[str, Any]:
    answer = send("/timers/replay", body)
    assert answer.status_code == 202, answer.content
    found: dict[str, Any] = answer.json()
    return found


def looked_at(timer_id: UUID) -> dict[str, Any]:
    found: dict[str, Any] = look(f"/timer/{timer_id}").json()
    return found


def given_up_at(times: dict[str, Outcome]) -> dict[str, str]:
    """Store timers that gave up; return their ids by their times."""
    made = {time: given_up(outcome).id for time, outcome in times.items()}
    for time, timer_id in made.items():
        change(timer_id, f"due_at = '{time}Z'")
    return {time: str(timer_id) for time, timer_id in made.items()}


# --- attempts --------------------------------------------------------------


def test_attempts_are_shown_in_order_sent_or_not() -> None:
    # Given a timer that could not be sent, then was answered 500 in 12 ms
    timer_id = new_timer(-1)
    first = claimed(timer_id)
    recording.postpone([postponement(first)])
    second = claimed(timer_id)
    answered = report(second, Outcome.FAILED)
    assert answered.attempt is not None
    attempt = replace(
        answered.attempt,
        status_code=500,
        sent_at=second.clock.database,
        duration=timedelta(milliseconds=12.4),
        answer="größer ".encode() + b"\x00\xff",
    )
    recording.record([replace(answered, error=None, attempt=attempt)])

    # When they are asked for
    answer = look(f"/timer/{timer_id}/attempts")

    # Then each says what became of it
    assert answer.status_code == 200
    assert answer.json() == {
        "attempts": [
            {
                "number": 1, "due_at": shown(first.next_at), "sent_at": None,
                "status_code": None, "duration_ms": 0,
                "error": "refused: nobody there", "answer": None,
            },
            {
                "number": 2, "due_at": shown(second.next_at),
                "sent_at": shown(second.clock.database), "status_code": 500,
                "duration_ms": 12.4, "error": None,
                "answer": "größer \x00\ufffd",
            },
        ]
    }


def shown(moment: datetime) -> str:
    """Return a time as the API has it, in milliseconds."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def test_a_timer_that_was_not_tried_has_no_attempts() -> None:
    timer_id = new_timer(30)
    claimed_id = new_timer(-1)
    claimed(claimed_id)
    for each in (timer_id, claimed_id):
        answer = look(f"/timer/{each}/attempts")
        assert (answer.status_code, answer.json()) == (200, {"attempts": []})


# --- the list --------------------------------------------------------------


def test_only_what_gave_up_is_listed_unknown_if_asked_for() -> None:
    # Given timers in every state
    _, fires, delivered, cancelled = new_timers(4, -1)
    claimed(fires)
    recording.record([report(claimed(delivered))])
    changing.cancel(OWNER, cancelled)
    failed, unknown, missed = (str(given_up(each).id) for each in GAVE_UP)

    # When those are listed that gave up
    assert listed("failed", "missed") == [failed, missed]
    assert listed("unknown") == [unknown]
    assert listed("failed", "unknown") == [failed, unknown]

    # Then they look as they do singly
    answer = look("/timers", "unknown").json()
    assert answer == {"timers": [looked_at(UUID(unknown))], "next": None}


def test_pages_follow_each_other_whatever_happens_meanwhile() -> None:
    # Given five failed timers, three of them due at the same time
    times = {f"2026-03-01T12:0{n}:00": Outcome.FAILED for n in range(5)}
    timers = [UUID(timer_id) for timer_id in given_up_at(times).values()]
    for timer_id in timers[1:4]:
        change(timer_id, "due_at = '2026-03-01T12:02:00Z'")
    expected = [timers[0], *sorted(timers[1:4]), timers[4]]

    # When they are listed two by two, and each is replayed at once
    found = []
    after: dict[str, object] = {}
    for size in (2, 2, 1):
        page = look("/timers", limit=2, **after).json()
        assert len(page["timers"]) == size
        found += [UUID(timer["id"]) for timer in page["timers"]]
        replaying.replay(OWNER, found)
        after = {"after": page["next"]}

    # Then each was there once, in order
    assert found == expected
    assert after == {"after": None}


def test_the_first_time_is_included_and_the_last_is_not() -> None:
    times = given_up_at({
        f"2026-03-01T12:00:0{n}": Outcome.FAILED for n in range(4)
    })
    second = list(times.values())
    for query, expected in (
        ({"from": f"{MOMENT[:-1]}1Z"}, second[1:]),
        ({"to": f"{MOMENT[:-1]}2Z"}, second[:2]),
        ({"from": f"{MOMENT[:-1]}1Z", "to": f"{MOMENT[:-1]}3Z"}, second[1:3]),
        ({"from": "2026-03-01T14:00:01.5+02:00"}, second[2:]),
        ({"from": "2026-03-01T07:00:03-0500"}, second[3:]),
        ({"to": "0001-01-01T00:00:00+14:00"}, []),
        ({"from": "9999-12-31T23:59:59-12:00"}, []),
        ({"from": f"{MOMENT}Z", "to": f"{MOMENT}Z"}, []),
    ):
        assert listed(**query) == expected, query


URLS = [
    "http://example.com/a",
    "https://EXAMPLE.com:443/b?x=http://other.example/",
    "http://example.com:8080",
    "http://example.com.evil.example/",
    "http://my-example.com/",
    "http://exampleXcom/",
    "http://other.example/example.com",
    "http://[::1]:8080/",
    "https://[2001:db8::1]?q",
    "http://10.0.0.1/",
    "http://110.0.0.1:080/",
    "http://bücher.example/",
    "https://xn--bcher-kva.example/",
]
HOSTS: dict[str, list[int]] = {
    "example.com": [0, 1, 2],
    "Example.COM": [0, 1, 2],
    "example.com:80": [0],
    "example.com:0443": [1],
    "example.com:8080": [2],
    "example.com.": [],
    "com": [],
    "example.com:8": [],
    "my-example.com": [4],
    "other.example": [6],
    "[::1]": [7],
    "[0:0::1]:8080": [7],
    "[::1]:80": [],
    "[2001:DB8::1]:443": [8],
    "10.0.0.1": [9],
    "110.0.0.1:80": [10],
    "bücher.example": [11, 12],
    "xn--bcher-kva.example": [11, 12],
    "bücher.example:443": [12],
}


def test_a_host_is_that_of_the_url_with_or_without_its_port() -> None:
    # Given failed timers of many URLs
    timers = [str(given_up(url=url).id) for url in URLS]
    found = {}
    for host in HOSTS:
        # When those of a host are listed, Then it is those and no others
        found[host] = sorted(timers.index(each) for each in listed(host=host))
    assert found == HOSTS


# --- replaying -------------------------------------------------------------


def test_one_is_replayed_if_it_gave_up() -> None:
    # Given a timer that was missed, and one that was delivered
    missed = given_up(Outcome.MISSED).id
    delivered = given_up(Outcome.DELIVERED).id

    # When it is replayed, Then it says how it stands, and waits once more
    answer = send(f"/timer/{missed}/replay")
    assert answer.status_code == 202
    found = answer.json()
    assert found == looked_at(missed)
    assert (found["status"], found["attempts"]) == ("retrying", 1)
    assert found["next_at"] is not None
    assert row(missed)["outcome"] is None

    # When it is once more, or the other is, Then the answer is no
    for timer_id in (missed, delivered):
        answer = send(f"/timer/{timer_id}/replay")
        assert answer.status_code == 409
        assert "did not give up" in answer.json()["detail"]


def test_many_are_replayed_by_id_and_the_others_named() -> None:
    failed, unknown = given_up().id, given_up(Outcome.UNKNOWN).id
    waits, nobody = new_timer(30), uuid4()
    ids = [str(each) for each in (waits, failed, nobody, unknown)]
    assert bulk(ids=ids * 2) == {
        "replayed": 2, "next": None, "not_replayed": [ids[0], ids[2]],
    }
    assert listed("failed", "unknown", "missed") == []


def test_a_set_is_replayed_by_and_by_though_it_fails_again() -> None:
    # Given five failed timers of one host, and others
    here, there = "http://here.example/", "http://there.example/"
    timers = [given_up(url=here).id for _ in range(5)]
    others = [given_up(url=there).id, given_up(Outcome.UNKNOWN, url=here).id]

    # When they are replayed two by two, and fail again at once
    bounds: dict[str, object] = {"host": "here.example", "limit": 2}
    counts = []
    while True:
        answer = bulk(**bounds)
        counts.append(answer["replayed"])
        for timer_id in timers:
            if row(timer_id)["outcome"] is None:
                recording.record([report(claimed(timer_id), Outcome.FAILED)])
        if answer["next"] is None:
            break
        bounds["after"] = answer["next"]

    # Then each was once
    assert counts == [2, 2, 1]
    assert [row(timer_id)["attempts"] for timer_id in timers] == [1] * 5
    assert [row(timer_id)["replayed_at"] for timer_id in others] == [None] * 2

    # And there is nothing after a full page that is the last
    assert bulk(host="here.example", limit=5) == {
        "replayed": 5, "next": None, "not_replayed": [],
    }


def test_a_set_is_that_of_the_list() -> None:
    times = given_up_at({
        "2026-03-01T11:00:00": Outcome.FAILED,
        "2026-03-01T12:00:00": Outcome.UNKNOWN,
        "2026-03-01T13:00:00": Outcome.UNKNOWN,
    })
    span: dict[str, object] = {
        "from": "2026-03-01T13:00:00+01:00", "to": "2026-03-01T13:00:00Z",
    }
    assert bulk(**span)["replayed"] == 0
    assert bulk(**span, status=["unknown"])["replayed"] == 1
    assert listed("failed", "unknown") == [
        times["2026-03-01T11:00:00"], times["2026-03-01T13:00:00"],
    ]


@pytest.mark.usefixtures("local_calls")
def test_failed_calls_arrive_once_the_receiver_is_mended(
    receiver: Receiver,
) -> None:
    # Given a receiver that answers 500, and two timers that failed by it
    receiver.status = 500
    timers = [new_timer(-1, url=receiver.url()) for _ in range(2)]
    elsewhere = given_up().id
    for timer_id in timers:
        fire.fire(timer_id)
        fire.fire(timer_id)
        assert looked_at(timer_id)["status"] == "failed"

    # When it is mended, and they are replayed by its host
    receiver.status = 200
    host = receiver.url("").removeprefix("http://")
    assert bulk(host=host)["replayed"] == 2
    for timer_id in timers * 2:
        fire.fire(timer_id)

    # Then each is called once more, with the id that it had
    assert receiver.counts() == dict.fromkeys(map(str, timers), 2)
    assert {call.headers["webhook-id"] for call in receiver.calls} == set(
        map(str, timers)
    )
    for timer_id in timers:
        found = looked_at(timer_id)
        assert (found["status"], found["status_code"]) == ("delivered", 200)
        tries = look(f"/timer/{timer_id}/attempts").json()["attempts"]
        assert [
            (each["number"], each["status_code"]) for each in tries
        ] == [(1, 500), (2, 200)]
    assert looked_at(elsewhere)["status"] == "failed"

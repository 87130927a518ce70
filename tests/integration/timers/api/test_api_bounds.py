"""What is too much, or not asked for, is refused at once and in few words."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.support.api import GOOD, create, look, names, post, send
from tests.support.rows import given_up

pytestmark = pytest.mark.usefixtures("db_pool")

NOBODY = "01a20c15-7e56-7662-8999-262562c78578"
LIST = "host, from, to, label, key, status, after, limit, order"


def get(path: str) -> Any:
    return Client(raise_request_exception=False).get(path)


# --- queries ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "field", "words"),
    [
        ("GET", "/timers?until=2026-03-01T12:00:00Z", "until", LIST),
        ("GET", "/timers?statuss=failed", "statuss", LIST),
        ("GET", "/timers?Status=failed", "Status", LIST),
        ("GET", "/timers?since=2026-03-01T12:00:00Z", "since", LIST),
        ("GET", "/timers?=1", "", LIST),
        ("GET", "/timers?host", "host", "real host"),
        ("GET", "/timers?host=a.example&host=b.example", "host", "once"),
        ("GET", "/timers?limit=1&limit=1", "limit", "once"),
        ("GET", f"/timer/{NOBODY}?verbose=1", "verbose", "there are none"),
        ("DELETE", f"/timer/{NOBODY}?force", "force", "there are none"),
        ("GET", f"/timer/{NOBODY}/attempts?limit=1", "limit", "none"),
        ("POST", f"/timer/{NOBODY}/replay?now=1", "now", "there are none"),
        ("POST", "/timers/replay?host=a.example", "host", "there are none"),
        ("POST", "/timer?seconds=5", "seconds", "there are none"),
        ("GET", "/livez?x=1", "x", "there are none"),
        ("GET", "/readyz?x=1", "x", "there are none"),
    ],
)
def test_a_parameter_that_is_unknown_is_named(
    method: str, path: str, field: str, words: str
) -> None:
    given_up()
    answer = Client().generic(method, path, json.dumps(GOOD))
    names(answer, field, words)


def test_what_is_documented_may_be_asked_for() -> None:
    timer_id = str(given_up().id)
    answer = look(
        "/timers", "failed", "missed", host="127.0.0.1", limit=5,
        **{"from": "2020-03-01T12:00:00Z", "to": "2099-03-01T12:00:00Z"},
    )
    assert [each["id"] for each in answer.json()["timers"]] == [timer_id]
    assert get(f"/timers?after={timer_id}").json()["timers"] == []
    for path in ("/api/docs?x=1", "/?x=1", "/api/openapi.json?v=2"):
        assert get(path).status_code in (200, 302)
    assert get("/nothing?x=1").status_code == 404
    assert get("/timer?x=1").status_code == 405


def test_an_address_is_bounded() -> None:
    for path in (
        f"/timers?status={'a' * 9000}",
        f"/timers?{'status=failed&' * 700}",
        f"/timer/{'a' * 9000}",
        f"/livez?{'a' * 9000}",
    ):
        answer = get(path)
        assert answer.status_code == 414
        assert "8,192" in answer.json()["detail"]
        assert len(answer.content) < 200
    assert get("/timers?" + "status=&" * 1023).status_code in (400, 422)


# --- long lists and names --------------------------------------------------

MANY = ["failed"] * 40_000
WRONG = ["x"] * 100_000
LONG = "a" * 250_000
REQUESTS: dict[str, tuple[Callable[[], Any], int, str]] = {
    "statuses": (
        lambda: send("/timers/replay", {"host": "a.example", "status": MANY}),
        422, "at most 3",
    ),
    "wrong statuses": (
        lambda: send("/timers/replay", {"host": "a.example", "status": WRONG}),
        422, "at most 3",
    ),
    "what is retried": (
        lambda: create(retry={"max_attempts": 2, "on": WRONG}),
        422, "at most 2",
    ),
    "ids": (lambda: send("/timers/replay", {"ids": WRONG}), 422, "1000"),
    "fields": (
        lambda: create(**{f"x{n}": 0 for n in range(40_000)}),
        422, "is not a field",
    ),
    "fields of a retry": (
        lambda: create(retry={f"x{n}": 0 for n in range(40_000)}),
        422, "must be an object",
    ),
    "headers": (
        lambda: create(headers={f"x{n}": "" for n in range(30_000)}),
        422, "64 at most",
    ),
    "a field's name": (lambda: create(**{LONG: 1}), 422, "is not a field"),
    "a field's name, escaped": (
        lambda: create(**{"\u20ac" * 40_000: 1}), 422, "is not a field",
    ),
    "a name within retry": (
        lambda: create(retry={"max_attempts": 2, LONG: 1}), 422, "not a field",
    ),
    "a header's name": (
        lambda: create(headers={f"webhook-{LONG}": "x"}), 422, "leave it out",
    ),
    "a header's underscores": (
        lambda: create(headers={f"webhook_{LONG}": "x"}), 422, "leave it out",
    ),
    "a header's wrong name": (
        lambda: create(headers={f"a {LONG}": "x"}), 422, "name",
    ),
    "a content-type": (
        lambda: create(headers={"content-type": f"a/{LONG[:8000]}"}, body=1),
        422, "must be a string",
    ),
    "a name that stands twice": (
        lambda: post(f'{{"{LONG}": 1, "{LONG}": 2}}'), 400, "stands twice",
    ),
    "a host": (
        lambda: send("/timers/replay", {"host": LONG}), 422, "2,048",
    ),
    "ports": (
        lambda: send("/timers/replay", {"host": ":1" * 120_000}), 422, "2,048",
    ),
    "a method": (lambda: create(method=LONG), 422, "'POST'"),
    "a url": (lambda: create(url=f"http://{LONG}/"), 422, "2,048"),
    "a path": (lambda: get(f"/{LONG[:7000]}"), 404, "nothing at"),
    "a host header": (
        lambda: Client().get("/timers", headers={"Host": LONG[:60_000]}),
        400, "ALLOWED_HOSTS",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_an_answer_is_short_and_soon(name: str) -> None:
    ask, status, words = REQUESTS[name]
    began = time.thread_time()
    answer = ask()
    took = time.thread_time() - began
    assert answer.status_code == status, answer.content[:500]
    assert words in json.dumps(answer.json(), ensure_ascii=False)
    assert len(answer.content) < 8_000
    assert took < 0.4  # seconds of processor time, the client's included


# --- far timers ------------------------------------------------------------


@pytest.mark.parametrize("days", [24_855, 25_000, 36_500])
def test_a_timer_may_be_as_far_as_the_setting_says(
    settings: Any, days: int
) -> None:
    settings.MAX_TIMER_DAYS = 36_500
    settings.RABBITMQ_URL = ""
    answer = create(hours=days * 24, seconds=0, max_lateness=days * 86_400)
    assert answer.status_code == 201
    assert answer.json()["time_left"] == days * 86_400
    path = answer["Location"]
    found = get(path)
    assert found.status_code == 200, found.content
    assert found.json()["time_left"] >= days * 86_400 - 60
    assert found.json()["max_lateness"] == days * 86_400
    assert get(f"{path}/attempts").json() == {"attempts": []}
    assert Client().delete(path).status_code == 204
    assert get(path).json()["status"] == "cancelled"
    assert create(hours=36_500 * 24, seconds=1).status_code == 422

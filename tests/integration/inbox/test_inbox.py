"""Inboxes: what they keep, show and answer."""

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import Settings

from apps.inbox import answers, storage
from apps.inbox.models import InboxAnswer, InboxCall
from apps.inbox.storage import Answer, NewCall
from apps.timers.models import Timer
from tests.support.postgres_switch import PostgresSwitch
from tests.support.waiting import eventually

BASE = "http://127.0.0.1:8000"
TIMER = "01a21bd8-6054-705a-b288-d4e597a0b251"


@pytest.fixture(autouse=True)
def inboxes(settings: Settings, db_pool: None) -> None:
    settings.INBOX = BASE


def call(
    method: str = "POST", path: str = "/inbox/a", body: bytes = b"{}",
    **headers: Any,
) -> Any:
    client = Client(raise_request_exception=False)
    given = {"webhook-id": "w", **headers}
    return client.generic(method, path, body, headers=given)


def calls(name: str = "a", query: str = "") -> Any:
    answer = Client().get(f"/inbox/{name}/calls{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def page() -> str:
    answer = Client().get("/inbox/a")
    assert answer.status_code == 200
    return answer.content.decode()


def submit(path: str, **fields: object) -> Any:
    return Client().post(path, fields)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/inbox"), ("GET", "/inbox/a"), ("POST", "/inbox/a"),
        ("GET", "/inbox/a/calls"), ("GET", "/inbox/a/newer"),
        ("POST", "/inbox/a/answer"), ("POST", "/inbox/a/timer"),
    ],
)
def test_there_are_none_unless_they_are_turned_on(
    settings: Settings, method: str, path: str
) -> None:
    settings.INBOX = ""
    answer = Client().generic(method, path)
    assert answer.status_code == 404
    assert "errors" in answer.json()
    assert not InboxCall.objects.exists()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_call_is_kept(method: str) -> None:
    answer = call(
        method, "/inbox/a?x=%3C&y", b"\x00\xff", **{"X-Odd": '"<&'},
    )
    assert answer.status_code == 200
    (kept,) = calls()["calls"]
    assert kept["method"] == method
    assert kept["query"] == "x=%3C&y"
    assert kept["headers"]["x-odd"] == '"<&'
    assert (kept["body"], kept["body_base64"]) == (None, "AP8=")
    assert kept["webhook_id"] == "w"
    assert not kept["verified"]
    assert "no webhook-timestamp" in kept["problem"]
    assert calls("b")["calls"] == []


def test_how_late_a_call_is_counts_from_its_due_time() -> None:
    for due, late in (
        ("2026-01-31T12:00:00+00:00", True), ("soon", False),
        ("2026-01-31T12:00:00", False),
    ):
        headers: dict[str, Any] = {"timer-due-at": due, "timer-attempt": "2"}
        call(**headers)
        kept = calls()["calls"][-1]
        assert (kept["late_ms"] is not None) == late
        assert kept["attempt"] == "2"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/inbox/a b", 404), (f"/inbox/{'a' * 65}", 404), ("/inbox/é", 404),
        ("/inbox/a/b", 404), ("/inbox/a/", 404),
        (f"/inbox/{'a' * 64}", 200), ("/inbox/A.b_c~d-9", 200),
    ],
)
def test_a_name_is_short_and_plain(path: str, status: int) -> None:
    assert call(path=path).status_code == status


def test_what_no_timer_sends_is_not_kept() -> None:
    assert call(body=b"x" * (64 * 1024)).status_code == 200
    assert call(body=b"x" * (64 * 1024 + 1)).status_code == 413
    assert call("OPTIONS").status_code == 405
    assert call(Origin="https://evil.example").status_code == 403
    assert len(calls()["calls"]) == 1


@pytest.mark.parametrize(
    ("kind", "status"), [("200", 200), ("500", 500), ("410", 410)]
)
def test_it_answers_as_it_was_told(
    kind: str, status: int
) -> None:
    told = submit("/inbox/a/answer", answer=kind, seconds=0)
    assert (told.status_code, told["Location"]) == (302, "/inbox/a")
    assert call().status_code == status
    assert calls()["calls"][0]["answer"] == kind
    assert call(path="/inbox/b").status_code == 200
    assert f'value="{kind}" selected' in page()


def test_it_says_when_to_come_again() -> None:
    submit("/inbox/a/answer", answer="429", seconds=7)
    answer = call()
    assert (answer.status_code, answer["Retry-After"]) == (429, "7")


def test_it_answers_late(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    # Not time.sleep itself: threads of other tests may sleep meanwhile.
    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    monkeypatch.setattr(answers, "time", clock)
    submit("/inbox/a/answer", answer="late", seconds=9)
    assert call().status_code == 200
    submit("/inbox/a/answer", answer="never", seconds=0)
    call()
    assert slept == [9, 15]
    submit("/inbox/a/answer", answer="endless", seconds=0)
    assert len(next(iter(call().streaming_content))) > 500


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (BASE, "http://127.0.0.1:8001/inbox/a"),
        ("https://[::1]:443", "http://[::1]:8001/inbox/a"),
    ],
)
def test_calls_are_reset_at_another_port(
    settings: Settings, base: str, url: str
) -> None:
    # Given an inbox that is to reset its calls
    settings.INBOX, settings.INBOX_RESET_PORT = base, 8001
    submit("/inbox/a/answer", answer="reset", seconds=0)

    # Then its timers call that port
    submit("/inbox/a/timer", seconds=5)
    assert Timer.objects.get().url == url
    assert f"<code>{url}</code>" in page()
    assert 'value="reset" selected' in page()

    # And web itself says that it can't
    answer = call()
    assert answer.status_code == 421
    assert "URL that does" in answer.json()["detail"]
    assert calls()["calls"][0]["answer"] == "421"

    # And without that port nobody can choose it
    settings.INBOX_RESET_PORT = 0
    assert 'value="reset"' not in page()
    assert "INBOX_RESET_PORT is off" in page()
    assert submit("/inbox/b/answer", answer="reset").status_code == 422
    submit("/inbox/a/timer", seconds=5)
    assert Timer.objects.filter(url=f"{base}/inbox/a").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"answer": "200"}, {"answer": "302", "seconds": 1},
        {"answer": "late", "seconds": 61}, {"answer": "late", "seconds": "x"},
        {"answer": "late", "seconds": -1},
    ],
)
def test_what_it_can_not_do_is_refused(fields: dict[str, object]) -> None:
    if set(fields) == {"answer"}:  # the seconds may be left out
        assert submit("/inbox/a/answer", **fields).status_code == 302
        return
    assert submit("/inbox/a/answer", **fields).status_code == 422
    assert not InboxAnswer.objects.exists()


def test_a_timer_is_set_by_the_form() -> None:
    answer = submit("/inbox/a/timer", seconds=5)
    timer = Timer.objects.get()
    assert answer["Location"] == f"/inbox/a?timer={timer.id}"
    assert timer.url == f"{BASE}/inbox/a"
    assert timer.due_at - timer.created_at == timedelta(seconds=5)
    for seconds in ("", "-1", "3601", "5.5", "²", "9" * 30):
        assert submit("/inbox/a/timer", seconds=seconds).status_code == 422
    assert Timer.objects.count() == 1


def test_pages_of_other_sites_set_nothing() -> None:
    for path in ("/inbox/a", "/inbox/a/timer", "/inbox/a/answer"):
        answer = Client().post(
            path, {"seconds": 5}, headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 403
    assert not InboxCall.objects.exists()
    assert not Timer.objects.exists()


def test_the_page_has_what_came_and_a_policy() -> None:
    assert "No call has come yet" in page()
    call(body=b'{"n": [1, 2]}', **{"X-Odd": "<b>'\""})
    call(body=b"<script>\xd7\x90", **{"webhook-id": TIMER})
    answer = Client().get("/inbox/a")
    policy = answer["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    text = answer.content.decode()
    assert "&lt;b&gt;&#x27;&quot;" in text
    assert "&lt;script&gt;א" in text
    assert f'href="/dashboard/timer/{TIMER}"' in text
    assert text.count('href="/dashboard/timer/') == 1
    assert "<script>א" not in text
    assert "&quot;n&quot;: [\n    1,\n" in text
    assert text.index("&lt;script&gt;") < text.index("&quot;n&quot;")
    for inline in (" style=", " onclick=", "<style", "<script>"):
        assert inline not in text


def test_an_open_page_gets_what_is_new() -> None:
    call(body=b'"alpha"')
    newer = Client().get("/inbox/a/newer?after=0")
    assert newer.status_code == 200
    last = calls()["next"]
    assert f"after={last}" in newer.content.decode()
    assert Client().get(f"/inbox/a/newer?after={last}").status_code == 204
    call(body=b'"beta"')
    text = Client().get(f"/inbox/a/newer?after={last}").content.decode()
    assert "beta" in text
    assert "alpha" not in text
    assert Client().get("/inbox/a/newer?after=x").status_code == 404


def test_programs_wait_for_the_next_call() -> None:
    call()
    last = calls()["next"]
    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        waiting = [
            pool.submit(calls, "a", f"?after={last}&wait=10")
            for _ in range(8)
        ]
        call(path="/inbox/b")
        time.sleep(0.3)
        assert not any(each.done() for each in waiting)
        call(body=b'"next"')
        for each in waiting:
            (found,) = each.result(9)["calls"]
            assert found["body"] == '"next"'
    assert time.monotonic() - began < 8
    # Nobody waits any more, so nobody asks Postgres.
    eventually(
        lambda: "arrivals" not in {t.name for t in threading.enumerate()}
    )


def test_a_wait_ends_in_time() -> None:
    began = time.monotonic()
    assert calls(query="?wait=1") == {"calls": [], "next": 0}
    assert 0.9 < time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?after=x", "after"), ("?wait=11", "wait"), ("?wait=-1", "wait"),
        ("?wait=", "wait"), (f"?after={'9' * 30}", "after"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, field: str) -> None:
    answer = Client().get(f"/inbox/a/calls{query}")
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == [field]


def new_call(name: str = "a") -> NewCall:
    return NewCall(name, "POST", "", {}, b"", timedelta(0))


def test_whoever_goes_on_after_an_id_misses_no_call() -> None:
    """Ids are given before commits, so one could be seen after the next."""
    seen: list[int] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            found = storage.after("a", seen[-1] if seen else 0, 100)
            seen.extend(each.id for each in found)

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        for done in [
            pool.submit(lambda: [storage.keep(new_call()) for _ in range(50)])
            for _ in range(4)
        ]:
            done.result(30)
        time.sleep(0.1)
        is_over.set()
        reading.result(10)
    assert len(seen) == 200
    assert seen == sorted(seen)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(storage._LIMITS, "kept", 3)
    monkeypatch.setattr(storage, "KEPT_IN_ALL", 5)


@pytest.mark.usefixtures("small")
def test_only_the_latest_calls_are_kept() -> None:
    for number in range(9):
        storage.keep(new_call("a" if number < 5 else "b"))
    assert len(calls()["calls"]) == 3
    assert InboxCall.objects.count() == 9
    storage.prune()
    left = list(InboxCall.objects.order_by("id").values_list("inbox"))
    assert left == [("a",)] + [("b",)] * 3


def test_calls_are_kept_for_an_hour() -> None:
    call()
    submit("/inbox/a/answer", answer="500", seconds=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE inbox_call SET came_at = came_at - interval '61 min'"
        )
        cursor.execute(
            "UPDATE inbox_answer SET set_at = set_at - interval '25 h'"
        )
    assert calls()["calls"] == []
    page()
    assert not InboxCall.objects.exists()
    assert not InboxAnswer.objects.exists()


def test_calls_themselves_delete_old_ones(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_PRUNE_EVERY", 4)
    monkeypatch.setattr(storage, "_kept", itertools.count(1))
    for _ in range(8):
        call()
    assert InboxCall.objects.count() == 3


def test_an_inbox_without_postgres_says_so(postgres: PostgresSwitch) -> None:
    postgres.goes_away()
    answer = call()
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert "Postgres" in answer.json()["detail"]
    assert Client().get("/inbox/a/calls").status_code == 503
    answer = Client().get("/inbox/a")
    assert answer.status_code == 503
    assert "<h1>Postgres is away</h1>" in answer.content.decode()
    assert submit("/inbox/a/timer", seconds=1).status_code == 503


def test_answers_are_settings_of_all_web_processes() -> None:
    storage.set_answer("a", Answer("410", 0))
    assert storage.keep(new_call()) == Answer("410", 0)
    assert json.loads(json.dumps(calls()))["calls"][0]["answer"] == "410"

"""Many timers at once: how many are meant is said before it is done."""

import html
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from apps.accounts.models import LogEntry
from apps.dashboard import many
from apps.timers import bulk
from apps.timers.models import Timer
from tests.support.accounts import AUTHOR, account
from tests.support.rows import attempts, change, new_timer, new_timers, row

PATH = "/dashboard/timers"
HOST = {"host": "127.0.0.1"}


@pytest.fixture(autouse=True)
def _standalone(db_pool: None, settings: Settings) -> None:
    settings.RABBITMQ_URL = ""


def ask(action: str, code: int = 200, /, **query: Any) -> str:
    """Return the page that asks whether it is meant, as text."""
    client = Client(raise_request_exception=False)
    answer = client.get(f"{PATH}/{action}?{urlencode(query, doseq=True)}")
    assert answer.status_code == code
    return plain(answer.content.decode())


def plain(text: str) -> str:
    main = text.partition("<main")[2].partition(">")[2]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", main)).split())


def do(action: str, **fields: Any) -> str:
    """Confirm it; return what the list then says."""
    client = Client(raise_request_exception=False)
    answer = client.post(f"{PATH}/{action}", fields)
    assert answer.status_code == 302, answer.content
    assert answer["Location"].startswith(f"{PATH}?")
    text = client.get(answer["Location"]).content.decode()
    found = re.search(r'role="status">(.*?)</div>', text, re.DOTALL)
    assert found
    return plain(f"<main {found[0]}")


def give_up(timer: UUID, outcome: str = "failed", attempts: int = 1) -> UUID:
    change(
        timer,
        f"outcome = '{outcome}', fired_at = due_at, attempts = {attempts}",
    )
    return timer


def fires(timer: UUID) -> UUID:
    change(timer, "fired_at = now(), leased_until = now() + '20 s'")
    return timer


def outcomes(timers: Sequence[UUID]) -> list[str | None]:
    return [row(timer)["outcome"] for timer in timers]


def test_those_that_are_selected_are_cancelled_and_no_other() -> None:
    first, second, third = new_timers(3, 60)
    text = ask("cancel", id=[first, second])
    assert "Cancel 2 timers? They will not be called." in text
    assert outcomes([first, second, third]) == [None] * 3
    said = do("cancel", id=[first, second])
    assert said == "2 of 2 timers were cancelled."
    assert outcomes([first, second, third]) == ["cancelled"] * 2 + [None]


def test_all_that_match_are_cancelled_and_no_more_than_agreed() -> None:
    timers = new_timers(3, 60)
    elsewhere = new_timer(60, url="http://elsewhere.example/")
    text = ask("cancel", all=1, **HOST)
    assert "Cancel 3 timers?" in text
    assert "They match host 127.0.0.1" in text
    late = new_timer(30)
    said = do("cancel", all=1, count=3, order="desc", **HOST)
    assert said == "3 of 3 timers were cancelled."
    assert outcomes(timers) == ["cancelled"] * 3
    assert outcomes([late, elsewhere]) == [None] * 2


def test_what_could_not_be_cancelled_is_counted_with_its_reason() -> None:
    waits, called = new_timers(2, 60)
    change(called, "sent_at = now(), claims = 1")
    firing = fires(new_timer(-1))
    ended = [give_up(new_timer(-5), each) for each in ("failed", "missed")]
    chosen = [waits, called, firing, *ended, uuid4()]
    text = ask("cancel", id=chosen)
    assert "Cancel 1 timer?" in text
    reasons = (
        "1: called before, and may have been received",
        "1: being called right now",
        "1: ended before: failed",
        "1: ended before: missed",
        "1: there no more",
    )
    said = do("cancel", id=chosen)
    assert "1 of 6 timers was cancelled. The others are:" in said
    for each in reasons:
        assert each in text
        assert each in said
    assert outcomes([waits, firing]) == ["cancelled", None]


def test_they_are_moved_as_one_is() -> None:
    labels = {"user": "17"}
    near, far = new_timer(30, labels=labels), new_timer(7200)
    firing = fires(new_timer(-1))
    assert "Move 2 timers?" in ask("move", id=[near, far, firing])
    said = do("move", id=[near, far, firing], seconds=600)
    assert "2 of 3 timers were moved." in said
    for timer in (near, far):
        found = row(timer)
        wait = found["next_at"] - found["created_at"]
        assert timedelta(seconds=600) <= wait < timedelta(seconds=630)
        assert found["due_at"] == found["next_at"]
        assert found["version"] == 2
    page = Client().get(f"/timer/{near}/explain").content.decode()
    assert "moved" in page


def test_moved_ones_are_left_to_the_dispatcher(settings: Settings) -> None:
    settings.RABBITMQ_URL = "amqp://localhost"
    timers = new_timers(1_100, 7200)
    moved = bulk.move(AUTHOR, timers, timedelta(seconds=5), "id")
    assert len(moved) == 1_100
    found = Timer.objects.filter(queued_at=None, version=2)
    assert found.count() == 1_100
    logged = LogEntry.objects.order_by("-count").values_list(
        "action", "object", "count"
    )
    assert list(logged) == [
        ("move", "timers by id", count) for count in (500, 500, 100)
    ]


def test_the_log_says_what_they_were_found_by() -> None:
    new_timers(2, 60)
    do("cancel", all=1, count=2, status="scheduled", **HOST)
    entry = LogEntry.objects.get()
    assert (entry.action, entry.object, entry.count) == (
        "cancel", "timers by status, host", 2,
    )


def test_those_that_gave_up_are_replayed() -> None:
    failed = give_up(new_timer(-5))
    unknown = give_up(new_timer(-5), "unknown")
    tired = give_up(new_timer(-5), attempts=1000)
    waits = new_timer(60)
    text = ask("replay", all=1, **HOST)
    assert "Replay 2 timers?" in text
    assert "status failed, missed" in text
    said = do("replay", all=1, count=2, **HOST)
    assert said == (
        "1 of 2 timers was replayed. The others are: 1: tried too often"
    )
    assert outcomes([failed, unknown, tired]) == [None, "unknown", "failed"]
    assert "Replay 1 timer?" in ask("replay", all=1, status="unknown")
    assert "1: did not give up: scheduled" in ask("replay", id=[waits])
    assert attempts(failed) == []
    change(give_up(unknown), "erased_at = now()")
    assert "1: erased" in ask("replay", id=[unknown])


@pytest.mark.parametrize(
    ("action", "query", "words"),
    [
        ("cancel", {}, "No timer is selected"),
        ("cancel", {"all": 1}, "Without a filter"),
        ("cancel", {"all": 1, "status": "failed"}, "none can be cancelled"),
        ("replay", {"all": 1, "status": "firing"}, "none can be replayed"),
        ("cancel", {"id": "<script>"}, "must be a UUID"),
        ("cancel", {"id": [str(uuid4()) for _ in range(6)]}, "At most"),
        ("move", {"all": 1, "host": "<script>"}, "host"),
        ("move", {"all": 1, "host": "a", "key": "b"}, "no index"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(
    action: str,
    query: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many, "_MOST_SELECTED", 5)
    new_timer(60)
    assert words in ask(action, 422, **query)
    client = Client(raise_request_exception=False)
    answer = client.post(f"{PATH}/{action}", {"seconds": 1, **query})
    assert answer.status_code == 422
    assert "<script>" not in answer.content.decode().partition("<main")[2]
    assert Timer.objects.filter(version=1, outcome=None).count() == 1


@pytest.mark.parametrize(
    ("action", "fields", "words"),
    [
        ("cancel", {}, "How many timers are meant"),
        ("cancel", {"count": "10001"}, "How many timers are meant"),
        ("cancel", {"count": "0"}, "How many timers are meant"),
        ("move", {"count": "1", "seconds": "x"}, "must be a whole number"),
        ("move", {"count": "1"}, "must be a whole number"),
    ],
)
def test_nothing_is_done_unless_it_is_clear_what(
    action: str, fields: dict[str, str], words: str
) -> None:
    timer = new_timer(60)
    client = Client(raise_request_exception=False)
    answer = client.post(f"{PATH}/{action}", {"all": 1, **HOST, **fields})
    assert answer.status_code == 422
    assert words in plain(answer.content.decode())
    assert row(timer)["version"] == 1


def test_no_more_than_the_most_are_meant(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST", 2)
    new_timers(3, 60)
    text = ask("cancel", all=1, **HOST)
    assert "Cancel 2 timers?" in text
    assert "More may match: 2 at a time." in text


def test_none_that_can_be_changed_is_said() -> None:
    firing = fires(new_timer(-1))
    text = ask("cancel", id=[firing])
    assert "None can be cancelled" in text
    assert "Cancel 1 timer" not in text


def test_timers_of_another_account_are_not_there() -> None:
    timer = new_timer(60)
    other = account("other")
    change(timer, f"account_id = {other}")
    assert "1: there no more" in ask("cancel", id=[timer])
    for action in many.ACTIONS:
        said = do(action, id=[timer], seconds=5)
        assert said.startswith("0 of 1 timer")
    assert row(timer)["version"] == 1


def test_what_is_said_of_a_result_is_only_what_is_known() -> None:
    said = "did=cancel&changed=1&of=2&why=%3Cscript%3E:1&why=gone:x&why=gone:1"
    text = Client().get(f"{PATH}?{said}").content.decode()
    assert "<li>1: there no more</li>" in text
    assert "<script>" not in text.partition("<main")[2]
    for wrong in ("did=x&changed=1&of=2", "did=cancel&changed=-1&of=2"):
        text = Client().get(f"{PATH}?{wrong}").content.decode()
        assert 'role="status">' not in text.partition("stale")[0]


def test_there_is_no_other_action() -> None:
    client = Client(raise_request_exception=False)
    assert client.get(f"{PATH}/delete").status_code == 404
    assert client.post(f"{PATH}/delete").status_code == 404

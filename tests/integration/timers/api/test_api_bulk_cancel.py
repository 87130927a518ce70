"""Many timers cancelled in one request: POST /timers/cancel."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.timers.models import Event, Outcome, Timer
from tests.support.api import HOOK, create, send

pytestmark = pytest.mark.usefixtures("memory_broker")


def cancel(**body: Any) -> Any:
    answer = send("/timers/cancel", body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def waiting() -> set[str]:
    return {
        str(timer.id) for timer in Timer.objects.filter(outcome=None)
    }


def set_timer(**changes: Any) -> str:
    return str(create(**changes).json()["id"])


def test_by_id() -> None:
    # Given timers that wait, one that was claimed, one that has ended
    wait = [set_timer() for _ in range(3)]
    claimed, ended = set_timer(), set_timer()
    Timer.objects.filter(id=claimed).update(fired_at=datetime.now(UTC))
    Timer.objects.filter(id=ended).update(outcome=Outcome.DELIVERED)
    unknown = str(uuid.uuid4())

    # When some of them are cancelled
    found = cancel(ids=[*wait[:2], wait[0], claimed, ended, unknown])

    # Then those that waited are, and the others are named
    assert found == {
        "found": 5, "cancelled": 2, "has_more": False,
        "not_cancelled": [claimed, ended, unknown],
    }
    assert waiting() == {wait[2], claimed}
    events = Event.objects.filter(what="cancelled")
    assert {str(event.timer_id) for event in events} == set(wait[:2])


def test_by_filter_after_a_dry_run() -> None:
    # Given timers for two hosts
    other = set_timer(url="https://example.org/")
    for number in range(3):
        set_timer(url=f"{HOOK}/{number}")

    # When it is asked how many there are
    counted = cancel(host="EXAMPLE.com", dry_run=True, limit=2)

    # Then none is cancelled
    assert counted == {
        "found": 2, "cancelled": 0, "has_more": True, "not_cancelled": [],
    }
    assert len(waiting()) == 4

    # And when they are cancelled, the limit holds
    assert cancel(host="example.com", limit=2)["cancelled"] == 2
    assert cancel(host="example.com:443", limit=2)["cancelled"] == 1
    assert waiting() == {other}


def test_by_time() -> None:
    early, late = set_timer(seconds=10), set_timer(seconds=100)
    between = (datetime.now(UTC) + timedelta(seconds=50)).isoformat()

    assert cancel(to=between, dry_run=True)["found"] == 1
    assert cancel(**{"from": between})["cancelled"] == 1
    assert waiting() == {early}
    assert late != early


@pytest.mark.parametrize("body", [
    {}, {"dry_run": True}, {"limit": 5}, {"ids": []}, {"ids": ["x"]},
    {"ids": [str(uuid.UUID(int=7))], "host": "example.com"},
    {"ids": [str(uuid.UUID(int=7))] * 1_001}, {"host": "a b"},
    {"host": "example.com", "limit": 10_001}, {"from": "yesterday"},
    {"host": "example.com", "dry_run": "yes"}, {"status": ["failed"]},
])  # fmt: skip
def test_what_is_not_clear_cancels_nothing(body: dict[str, Any]) -> None:
    timer_id = set_timer()

    answer = send("/timers/cancel", body)

    assert answer.status_code == 422, answer.content
    assert answer.json()["errors"]
    assert waiting() == {timer_id}


def test_by_label_and_status() -> None:
    labelled = set_timer(labels={"user": "17"})
    other = set_timer(labels={"user": "18"})

    assert cancel(label=["user:17"], status=["retrying"])["found"] == 0
    assert cancel(label=["user:17"])["cancelled"] == 1
    assert waiting() == {other}
    assert labelled != other

"""Rows of a timer as they are explained, made up; and what is said."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from apps.timers.explain.answer import Explanation, explain
from apps.timers.storage.explaining import Details, Event, History, Role
from apps.timers.storage.holding import Hold
from apps.timers.storage.records import Attempt, StoredTimer
from apps.webhooks.retry import RetryPolicy

DUE = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
CREATED = DUE - timedelta(hours=1)
RETRY = RetryPolicy(5, 10, 3600, unanswered=False)


def at(seconds: float) -> datetime:
    """Return the moment this many seconds after the timer's time."""
    return DUE + timedelta(seconds=seconds)


def timer(**columns: Any) -> StoredTimer:
    values: dict[str, Any] = {
        "retry": None, "id": UUID(int=1), "url": "http://example.com/",
        "method": "POST", "time_left": 0, "created_at": CREATED,
        "due_at": DUE, "next_at": DUE, "fired_at": None, "sent_at": None,
        "outcome": None, "deferred": False, "status_code": None,
        "error": None, "at_least_once": False, "max_lateness": None,
        "key": None, "labels": None, "version": 1, "attempts": 0,
        "status": "scheduled",
    }
    return StoredTimer(**values | columns)


def attempt(
    number: int = 1,
    code: int | None = None,
    error: str | None = None,
    sent: float | None = None,
    due: float = 0,
) -> Attempt:
    took = None if error and "worker" in error else timedelta(seconds=0.012)
    sent_at = None if sent is None else at(sent)
    return Attempt(number, at(due), sent_at, code, error, took, None)


def event(
    what: str, when: float, old: float | None = None, new: float | None = None
) -> Event:
    return Event(
        1, at(when), what,
        None if old is None else at(old), None if new is None else at(new),
    )


def told(
    now: float = 0,
    of: StoredTimer | None = None,
    attempts: tuple[Attempt, ...] = (),
    events: tuple[Event, ...] = (),
    roles: dict[str, Role] | None = None,
    has_rabbitmq: bool = True,
    hold: Hold | None = None,
    **details: Any,
) -> Explanation:
    """Explain a timer, `now` seconds after its time."""
    well = {
        name: Role(name, at(now), None) for name in ("dispatcher", "worker")
    }
    history = History(
        of or timer(), Details(at(now), **details), events, attempts,
        well if roles is None else roles, hold,
    )
    return explain(history, has_rabbitmq=has_rabbitmq)


BUSY = "busy: 9 calls to example.com:80 are under way, its share"
HANGING = "hanging: the last 5 calls to example.com:80 got no answer"
LOST = "worker_lost: the worker died before the call"
GONE_AFTER = "unknown: the worker died after the request had left"
CALLED: dict[str, Any] = {"fired_at": at(0), "attempts": 1}
CLAIM: dict[str, Any] = {"leased_until": at(20), "claims": 1}


#: The arguments of `told`, then the answer: its summary, and when the next
#: thing happens and what it is.
Situation = tuple[dict[str, Any], str, float | None, str]


def check(situation: Situation) -> None:
    """Assert where a timer stands, and what comes next."""
    given, summary, when, what = situation
    found = told(**given)
    assert found.summary == summary
    if when is None:
        assert found.next is None
    else:
        assert found.next is not None
        assert (found.next.at, found.next.what) == (at(when), what)

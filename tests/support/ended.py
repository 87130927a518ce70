"""Timers that ended, time that passes, and what retention leaves."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from apps.core.database import pool
from apps.timers.models import Outcome
from apps.timers.scheduling.retention import run_once
from apps.timers.storage import changing, recording
from apps.timers.storage.records import Definition, NamedTimer, NewTimer
from tests.support.rows import claimed, given_up, new_timer, report

TABLES = ("timer", "attempt", "event", "timer_label", "timer_key")
YEAR = 365 * 86_400


def execute(query: str, *values: object) -> list[Any]:
    with pool().connection() as connection:
        cursor = connection.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def pass_days(days: float) -> None:
    """Let time pass for all rows."""
    for table, *columns in (
        ("timer", "due_at", "next_at", "fired_at", "replayed_at"),
        ("event", "at"),
        ("timer_label", "due_at"),
        ("request_key", "created_at"),
        ("request_chunk", "created_at"),
    ):
        moved = ", ".join(
            f"{name} = {name} - {days} * interval '1 day'" for name in columns
        )
        execute(f"UPDATE {table} SET {moved}")


def kept() -> set[UUID]:
    return {timer_id for (timer_id,) in execute("SELECT id FROM timer")}


def counts() -> dict[str, int]:
    """Return how many rows each table has."""
    return {
        table: execute(f"SELECT count(*) FROM {table}")[0][0]
        for table in TABLES
    }


def go_on(seconds: float) -> bool:
    """Rest for no time, and go on."""
    return False


def removed() -> int:
    """Do a round in which nothing fails; return how many it removed."""
    done = run_once(go_on)
    assert not done.failed
    return done.removed


def delivered() -> UUID:
    claim = claimed(new_timer(-1))
    recording.record([report(claim)])
    return claim.id


def cancelled() -> UUID:
    """Store a timer that is due in a year, and cancel it."""
    timer_id = new_timer(YEAR)
    assert changing.cancel(timer_id)
    return timer_id


ENDED: dict[Outcome, Callable[[], UUID]] = {
    Outcome.DELIVERED: delivered,
    Outcome.FAILED: lambda: given_up(Outcome.FAILED).id,
    Outcome.UNKNOWN: lambda: given_up(Outcome.UNKNOWN).id,
    Outcome.MISSED: lambda: given_up(Outcome.MISSED).id,
    Outcome.CANCELLED: cancelled,
}


def named(key: str | None, **labels: str) -> NamedTimer:
    timer = NewTimer(
        uuid4(), Definition("http://127.0.0.1:9/", labels=labels or None),
        timedelta(seconds=-1), queued=False,
    )
    return NamedTimer(timer, key, takes_key=True)

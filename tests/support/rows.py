"""Rows of the timer table: making them, shifting them, looking at them."""

from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import uuid_utils.compat
from psycopg.rows import dict_row

from apps.core.database import connect, pool
from apps.timers.models import Outcome
from apps.timers.storage import claiming, creating, recording
from apps.timers.storage.claim_records import (
    Claim,
    ClaimRequest,
    Postponement,
    Report,
)
from apps.timers.storage.records import Attempt, Definition, NewTimer
from tests.support.accounts import OWNER


def new_timers(
    count: int,
    seconds: float = 0,
    *,
    url: str = "http://127.0.0.1:9/",
    queued: bool = False,
    **options: Any,
) -> list[UUID]:
    """Store timers that are due in `seconds`; these may be negative.

    `options` are Definition's.
    """
    definition = Definition(url, **options)
    delay = timedelta(seconds=seconds)
    timers = [
        NewTimer(uuid_utils.compat.uuid7(), OWNER, definition, delay, queued)
        for _ in range(count)
    ]
    creating.create(timers)
    return [timer.id for timer in timers]


def new_timer(seconds: float = 0, **options: Any) -> UUID:
    """Store one timer."""
    return new_timers(1, seconds, **options)[0]


def row(timer_id: UUID) -> dict[str, Any]:
    """Return a timer's row."""
    with pool().connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        found = cursor.execute(
            "SELECT * FROM timer WHERE id = %s", [timer_id]
        ).fetchone()
    assert found is not None
    return found


def attempts(timer_id: UUID) -> list[dict[str, Any]]:
    """Return the rows of a timer's attempts, in order."""
    with pool().connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(
            "SELECT * FROM attempt WHERE timer_id = %s ORDER BY number",
            [timer_id],
        ).fetchall()


def database_clock() -> datetime:
    """Return the time on Postgres's clock."""
    with pool().connection() as connection:
        found = connection.execute("SELECT clock_timestamp()").fetchone()
    assert found is not None
    return cast(datetime, found[0])


def change(timer_id: UUID, assignments: str) -> None:
    """Set columns of a row to SQL expressions."""
    with pool().connection() as connection:
        connection.execute(
            f"UPDATE timer SET {assignments} WHERE id = %s",
            [timer_id],
        )


def claimed(timer_id: UUID, token: UUID | None = None) -> Claim:
    """Claim a timer that must be free."""
    request = ClaimRequest(timer_id, token or uuid_utils.compat.uuid7())
    (answer,) = claiming.claim([request])
    assert isinstance(answer, Claim), answer
    return answer


def attempt(
    claim: Claim, status_code: int | None, error: str | None = None
) -> Attempt:
    """Return an attempt that took no time; one with a status was sent."""
    sent_at = claim.clock.database if status_code else None
    return Attempt(
        claim.attempt,
        claim.next_at,
        sent_at,
        status_code,
        error,
        timedelta(0),
        None,
    )


def report(claim: Claim, outcome: Outcome = Outcome.DELIVERED) -> Report:
    """Return a report of a claim's call: answered 200, or unreadably."""
    if outcome is Outcome.DELIVERED:
        return Report(
            claim.id, claim.token, outcome, None, attempt(claim, 200)
        )
    error = "protocol: not HTTP"
    return Report(
        claim.id, claim.token, outcome, error, attempt(claim, None, error)
    )


def given_up(outcome: Outcome = Outcome.FAILED, **options: Any) -> Claim:
    """Store a timer whose only call ended so, and return its claim."""
    claim = claimed(new_timer(-1, **options))
    assert recording.record([report(claim, outcome)]) == [True]
    return claim


def postponement(claim: Claim, seconds: float = 0) -> Postponement:
    """Return that a claim's call was refused, and is to be tried again."""
    error = "refused: nobody there"
    return Postponement(
        claim.id,
        claim.token,
        timedelta(seconds=seconds),
        error,
        attempt(claim, None, error),
        claim.connect_failures + 1,
        claim.retry_until or claim.clock.database + timedelta(minutes=15),
        claim.retries,
    )


def fill(count: int, columns: str) -> None:
    """Insert rows by `columns`, SQL expressions of `n`, for all but the id.

    Given are url, created_at, due_at, next_at and the columns that are
    named: "queued_at = now(), …".
    """
    pairs = [pair.split(" = ", 1) for pair in columns.split("; ")]
    names = "".join(f", {name}" for name, _ in pairs)
    values = "".join(f", {value}" for _, value in pairs)
    with connect() as connection:
        connection.execute(
            f"INSERT INTO timer (id, url, created_at{names})"
            f" SELECT gen_random_uuid(), 'http://127.0.0.1:9/', now(){values}"
            f" FROM generate_series(1, {count}) AS n"
        )

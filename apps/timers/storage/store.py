"""All state changes of timers.

Every function takes many timers at once, runs one statement of `sql` in
autocommit, and leaves grouping, waiting and repeating to its callers.
Lost connections surface as `database.UNAVAILABLE`.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.core.database import (
    STALL,
    Connection,
    connect,
    list_pool,
    pool,
)
from apps.timers.models import Outcome
from apps.timers.storage import reading, sql
from apps.timers.storage.aside import (
    bad_free,
    each_for_itself,
    found,
    matched,
    reason,
    set_aside,
    skipped,
    writing_one,
)
from apps.timers.storage.records import (
    Answered,
    Attempt,
    Claim,
    ClaimRequest,
    ClockReading,
    DueMessage,
    Early,
    GaveUpFilter,
    Mark,
    NewTimer,
    Postponement,
    Report,
    StoredTimer,
)
from apps.webhooks.target import host_of

#: Near timers sleep in RabbitMQ, farther ones in Postgres alone.
HORIZON = timedelta(seconds=60)
#: How long before its time a timer may be claimed; the worker waits out
#: the rest, so that the claim's own commit does not make the call late.
LEAD = timedelta(milliseconds=20)
#: How long a claim holds without a word from its worker.
LEASE = timedelta(seconds=20)
#: How often a claim that ended unsent is opened again. After that the timer
#: itself may be what kills its workers.
MOST_REOPENINGS = 5
#: How late a waiting timer may be and still count as on time. A later one goes
#: the way of the overdue ones, behind those that are on time. Whoever looks
#: for timers does so once a second at least.
OVERDUE_AFTER = timedelta(seconds=1)
#: A waiting timer is looked for again when overdue by this.
LOST_AFTER = timedelta(seconds=2)
#: How long after it was last queued such a timer is queued again, at the
#: earliest: while RabbitMQ's queues are empty, and while they are not.
REQUEUE_IDLE = timedelta(seconds=5)
REQUEUE_BUSY = timedelta(seconds=60)
#: Nothing is taken over this soon after Postgres's own start, or after it
#: was out of reach: workers that could not report by then must be able to
#: report first.
SETTLE = timedelta(seconds=10)
#: A timer with this many attempts is not replayed. Replays in a loop would
#: call its receiver for ever.
MOST_ATTEMPTS = 1_000


def _read_clock(connection: Connection) -> ClockReading:
    """Read Postgres's clock.

    A time that a writing statement returns is a commit old when the answer
    arrives, and a commit may take longer than a rung of the ladder.
    """
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return ClockReading(row[0], time.monotonic())


def create(timers: Sequence[NewTimer]) -> list[float]:
    """Store timers; return when each is due, on `time.monotonic()`.

    If none of them is queued, nobody needs exact times: the delays count from
    the moment before the timers were stored. Dispatchers and feeders are woken
    if a near timer is not queued by its creator.
    """
    with pool().connection() as connection:
        began = time.monotonic()
        row = connection.execute(
            sql.CREATE,
            {
                "ids": [timer.id for timer in timers],
                "urls": [timer.url for timer in timers],
                "hosts": [host_of(timer.url) for timer in timers],
                "methods": [timer.request.method for timer in timers],
                "headers": _given(
                    _json(timer.request.headers) for timer in timers
                ),
                "bodies": _given(timer.request.body for timer in timers),
                "retries": _given(
                    timer.retry and _json(asdict(timer.retry))
                    for timer in timers
                ),
                "lateness": _given(timer.max_lateness for timer in timers),
                "delays": [timer.delay for timer in timers],
                "queued": [timer.queued for timer in timers],
                "again": [timer.at_least_once for timer in timers],
                "notify": any(
                    timer.delay <= HORIZON and not timer.queued
                    for timer in timers
                ),
            },
        ).fetchone()
        if any(timer.queued for timer in timers):
            assert row is not None
            began = _read_clock(connection).to_monotonic(row[0])
    return [began + timer.delay.total_seconds() for timer in timers]


def _given(values: Iterable[Any]) -> list[Any] | None:
    """Return a column, None if it has no values: unnest() fills in NULLs."""
    column = list(values)
    return column if any(value is not None for value in column) else None


def _json(value: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(value)) if value else None


def get(timer_id: UUID) -> StoredTimer | None:
    """Return a timer, or None when there is none of that id.

    If parts of its row can't be read, the rest is returned; `error` says so.
    """
    with pool().connection() as connection:
        timers = reading.stored_timers(connection, sql.GET, {"id": timer_id})
    return timers[0] if timers else None


def claim(requests: Sequence[ClaimRequest]) -> list[Claim | Early | None]:
    """Claim timers; the answers stand in the order of the requests.

    None means that the timer is someone else's, has ended, or never was; or
    that it ends here, since its row can't be used.
    """

    def bad(
        request: ClaimRequest, error: Exception
    ) -> list[Claim | Early | None]:
        set_aside(request.id, error, token=request.token)
        return [None]

    return each_for_itself(_claim, requests, bad)


def _claim(requests: Sequence[ClaimRequest]) -> list[Claim | Early | None]:
    with pool().connection() as connection:
        rows = connection.execute(
            sql.CLAIM,
            {
                "ids": [request.id for request in requests],
                "tokens": [request.token for request in requests],
                "lead": LEAD,
                "lease": LEASE,
            },
        ).fetchall()
        clock = _read_clock(connection)
    answers = dict(reading.claim_answer(row, clock) for row in rows)
    return [answers.get(request.token) for request in requests]


def renew(claims: Sequence[ClaimRequest]) -> list[bool]:
    """Let claims hold for a whole lease again; False where one was lost."""
    return matched(sql.RENEW, claims, lambda _: {"lease": LEASE})


def _attempts(items: Sequence[Report | Postponement]) -> dict[str, Any]:
    """Return the columns of attempts, NULL where none was made."""
    return {
        column.name: [
            item.attempt and getattr(item.attempt, column.name)
            for item in items
        ]
        for column in fields(Attempt)
    }


def record(reports: Sequence[Report]) -> list[bool]:
    """Record how timers ended; False where the claim was lost by then.

    Repeating a record is harmless. A late record replaces the `unknown` of
    its own claim with the answer.
    """
    return matched(sql.RECORD, reports, _report_columns, _outcome)


def record_for_the_dead(reports: Sequence[Report]) -> list[bool]:
    """Record how `answered` timers ended; False where that is known."""
    return matched(
        sql.RECORD_FOR_THE_DEAD, reports, _report_columns, _outcome
    )


def _outcome(report: Report) -> Outcome:
    return report.outcome


def _report_columns(reports: Sequence[Report]) -> dict[str, Any]:
    columns = _attempts(reports)
    # A timer says why it ended, also when no attempt was made.
    columns["error"] = [report.error for report in reports]
    columns["outcome"] = [report.outcome.value for report in reports]
    return columns


def postpone(timers: Sequence[Postponement]) -> list[bool]:
    """Open claimed timers again for a later try; False for lost claims.

    Their `next_at` moves, so that nothing takes them for overdue.
    """
    return matched(
        sql.POSTPONE, timers, _postponement_columns, lambda _: Outcome.FAILED
    )


def _postponement_columns(timers: Sequence[Postponement]) -> dict[str, Any]:
    columns = _attempts(timers)
    for name in ("error", "delay", "connect_failures", "retry_until",
                 "retries"):
        columns[name] = [getattr(timer, name) for timer in timers]
    return columns


def cancel(timer_id: UUID) -> bool:
    """Cancel a waiting timer; False when it isn't waiting any more.

    A timer whose call failed, and is to be retried, is not called again. A
    timer that was called, and is sent again only because its worker died (at
    least once), can't be cancelled: it may have been received.

    The claim re-checks `outcome` under the row's lock. So if a cancel and a
    claim come at the same time, exactly one succeeds. Raises RowUnwritable.
    """
    with writing_one(), pool().connection() as connection:
        return bool(connection.execute(sql.CANCEL, [timer_id]).rowcount)


def mark_sent(marks: Sequence[Mark]) -> None:
    """Note that requests have left, or were answered.

    It has no effect once what came of them is recorded.
    """
    matched(
        sql.MARK_SENT,
        marks,
        lambda some: {
            "sent_at": [mark.sent_at for mark in some],
            "status_code": [mark.status_code for mark in some],
        },
        lambda _: Outcome.UNKNOWN,
    )


def unqueue(timer_ids: Sequence[UUID]) -> None:
    """Clear the queue mark of timers whose message did not get through."""

    def run(some: Sequence[UUID]) -> list[None]:
        with pool().connection() as connection:
            connection.execute(sql.UNQUEUE, {"ids": list(some)})
        return []

    each_for_itself(run, timer_ids, bad_free)


def _near(
    query: str, ids: str, overdue: bool, **values: Any
) -> list[DueMessage]:
    """Run a query that returns timers' ids and times."""
    values["overdue_after"] = OVERDUE_AFTER
    with pool().connection() as connection:
        rows = found(connection, query, ids, **values)
        if not rows:
            return []
        clock = _read_clock(connection)
    return [
        DueMessage(timer_id, clock.to_monotonic(next_at), overdue)
        for timer_id, next_at in rows
    ]


def promote(*, overdue: bool, limit: int) -> list[DueMessage]:
    """Mark waiting timers as queued and return them, to be published.

    Either those whose time has passed or those due within the horizon. Timers
    that another dispatcher is marking are skipped.
    """
    return _near(
        sql.PROMOTE[overdue], sql.UNQUEUED_IDS[overdue], overdue,
        ahead=HORIZON, limit=limit,
    )


def due(*, overdue: bool, ahead: timedelta, limit: int) -> list[DueMessage]:
    """Return waiting, unqueued timers without marking them."""
    return _near(
        sql.DUE[overdue], sql.UNQUEUED_IDS[overdue], overdue,
        ahead=ahead, limit=limit,
    )


def lost(*, idle: bool, limit: int) -> list[DueMessage]:
    """Mark again, and return, timers whose message seems to be lost.

    They are queued, and overdue by 2 s. While RabbitMQ's queues are empty
    (`idle`), that is a loss. While they are not, it may be a backlog, and a
    timer is queued again only after a minute.
    """
    return _near(
        sql.LOST, sql.LOST_IDS, True, idle=idle, lost_after=LOST_AFTER,
        limit=limit, requeue_after=REQUEUE_IDLE if idle else REQUEUE_BUSY,
    )


def take_over(*, limit: int) -> list[tuple[UUID, Outcome | None]]:
    """Take over the claims whose lease has ended.

    A request that had left is not sent again (`unknown`), unless the timer
    asks for that. If it had not left, the timer is open again (None), up to
    five times. Claims that are `answered` are left as they are.
    """
    rows, _ = _lease_ended(sql.TAKE_OVER, limit)
    return [
        (timer_id, Outcome(decision) if decision else None)
        for timer_id, decision in rows
    ]


def answered(*, limit: int) -> list[Answered]:
    """Return the claims whose lease has ended after they were answered."""
    rows, clock = _lease_ended(sql.ANSWERED, limit)

    def read(some: Sequence[tuple[Any, ...]]) -> list[Answered]:
        return [
            Answered(reading.claim(rest, clock), status_code, sent_at)
            for _, status_code, sent_at, *rest in some
        ]

    return each_for_itself(
        read, rows, lambda row, error: bad_free(row[0], error)
    )


def _lease_ended(
    query: str, limit: int
) -> tuple[list[tuple[Any, ...]], ClockReading]:
    """Run a query for claims whose lease has ended.

    A statement that was held up on its way does nothing: marks may have been
    held up, too.
    """
    began = time.monotonic()
    with pool().connection() as connection:
        clock = _read_clock(connection)
        if clock.monotonic - began > STALL:
            return [], clock
        rows = found(
            connection,
            query,
            sql.LEASED_IDS,
            most=MOST_REOPENINGS,
            settle=SETTLE,
            asked=clock.database,
            stall=timedelta(seconds=STALL),
            limit=limit,
        )
    return rows, clock


def count_near() -> tuple[int, int]:
    """Return how many waiting timers are overdue and how many are near.

    That takes long if there are many millions.
    """
    with connect() as connection:
        row = connection.execute(sql.COUNT, {"ahead": HORIZON}).fetchone()
    assert row is not None
    return row[0], row[1]


def notify() -> None:
    """Wake the dispatchers and feeders."""
    with pool().connection() as connection:
        connection.execute("SELECT pg_notify(%s, '')", [sql.CHANNEL])


def attempts(timer_id: UUID) -> list[Attempt]:
    """Return a timer's attempts that have ended, in order."""
    with pool().connection() as connection:
        return reading.attempts(connection, sql.ATTEMPTS, {"id": timer_id})


def failed(of: GaveUpFilter, *, limit: int) -> list[StoredTimer]:
    """Return timers that gave up, in the order of `due_at`, then `id`.

    Raises psycopg.errors.QueryCanceled, or `database.Busy`, when that would
    take too long.
    """
    values = asdict(of) | {"limit": limit}
    values["outcomes"] = [outcome.value for outcome in of.outcomes]
    values["port"] = sql.port_pattern(of.port)
    query = sql.FAILED if of.host is None else sql.FAILED_AT_HOST
    with list_pool().connection() as connection:
        return reading.stored_timers(connection, query, values)


def replay(timer_ids: Sequence[UUID]) -> set[UUID]:
    """Open again timers that gave up, due now; return which were opened.

    If two calls replay a timer at the same time, one of them gets it. A timer
    with MOST_ATTEMPTS attempts stays as it is, and so does one whose row can't
    be written.
    """

    def bad(timer_id: UUID, error: Exception) -> list[UUID]:
        skipped.add(timer_id, reason(error))
        return []

    return set(each_for_itself(_replay, timer_ids, bad))


def replay_one(timer_id: UUID) -> bool:
    """Replay one timer; tell whether it was opened again.

    Raises RowUnwritable.
    """
    with writing_one():
        return bool(_replay([timer_id]))


def _replay(timer_ids: Sequence[UUID]) -> list[UUID]:
    values = {"ids": list(timer_ids), "most": MOST_ATTEMPTS}
    with pool().connection() as connection:
        rows = connection.execute(sql.REPLAY, values).fetchall()
    return [timer_id for (timer_id,) in rows]

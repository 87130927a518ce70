"""All state changes of timers, and all of their SQL.

Every function takes many timers at once, runs one statement in
autocommit, and leaves grouping, waiting and repeating to its callers.
Postgres's clock decides everything; `clock_timestamp()` is used where a
statement may have waited for a lock, `now()` where an index must serve
(a volatile function can't be an index condition). Rows are locked in the
order of their ids, since two groups that lock in opposite orders
deadlock. Lost connections surface as `database.UNAVAILABLE`.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.timers.database import Connection, pool
from apps.timers.models import Outcome
from apps.timers.records import (
    Claim,
    ClockReading,
    Early,
    Mark,
    Near,
    NewTimer,
    Postponement,
    Report,
    StoredTimer,
    Wish,
)

#: Near timers sleep in RabbitMQ, farther ones in Postgres alone.
HORIZON = timedelta(seconds=60)
#: How long before its time a timer may be claimed; the worker waits out
#: the rest, so that the claim's own commit does not make the call late.
LEAD = timedelta(milliseconds=20)
#: How long a claim holds without a word from its worker.
LEASE = timedelta(seconds=20)
#: So often a claim that ended unsent is opened again; then the timer may
#: be what kills its workers.
MOST_REOPENINGS = 5
#: A waiting timer goes the way of the overdue ones, behind those that are
#: on time, when its time passed so long ago. Whoever looks for timers does
#: so once a second at least: one that came due in between is on time.
OVERDUE_AFTER = timedelta(seconds=1)
#: A waiting timer is looked for again when overdue by this.
LOST_AFTER = timedelta(seconds=2)
#: …and not sooner after it was last queued than this, while RabbitMQ's
#: queues stand empty, and than this while they do not.
REQUEUE_IDLE = timedelta(seconds=5)
REQUEUE_BUSY = timedelta(seconds=60)
#: Nothing is taken over this soon after Postgres's own start: workers
#: that it kept from reporting are to report first.
SETTLE = timedelta(seconds=10)

#: Listened to by whoever feeds timers to the workers.
CHANNEL = "timers_near"

_WAITING = "fired_at IS NULL AND outcome IS NULL"


def _read_clock(connection: Connection) -> ClockReading:
    """Read Postgres's clock.

    What a statement returned of it is a commit old, by the time that the
    answer is here; and a commit may take longer than a rung of the ladder.
    """
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return ClockReading(row[0], time.monotonic())


_CREATE = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now,
           CASE WHEN %(notify)s THEN pg_notify('{CHANNEL}', '') END
),
stored AS (
    INSERT INTO timer (id, url, created_at, due_at, next_at, queued_at,
                       at_least_once)
    SELECT id, url, now, now + delay, now + delay,
           CASE WHEN queued THEN now END, at_least_once
    FROM clock, unnest(%(ids)s::uuid[], %(urls)s::text[],
                       %(delays)s::interval[], %(queued)s::boolean[],
                       %(again)s::boolean[])
         AS new (id, url, delay, queued, at_least_once)
)
SELECT now FROM clock
"""


def create(timers: Sequence[NewTimer]) -> list[float]:
    """Store timers; return when each is due, on `time.monotonic()`.

    Whoever feeds the workers is woken when there is need: when a near
    timer is not queued by who creates it.
    """
    with pool().connection() as connection:
        row = connection.execute(
            _CREATE,
            {
                "ids": [timer.id for timer in timers],
                "urls": [timer.url for timer in timers],
                "delays": [timer.delay for timer in timers],
                "queued": [timer.queued for timer in timers],
                "again": [timer.at_least_once for timer in timers],
                "notify": any(
                    timer.delay <= HORIZON and not timer.queued
                    for timer in timers
                ),
            },
        ).fetchone()
        clock = _read_clock(connection)
    assert row is not None
    return [clock.to_monotonic(row[0] + timer.delay) for timer in timers]


_GET = """
SELECT id, url,
       greatest(0, ceil(extract(epoch FROM due_at - clock_timestamp())))::int,
       created_at, due_at, fired_at, sent_at, outcome, status_code, error,
       at_least_once, connect_failures
FROM timer WHERE id = %s
"""


def get(timer_id: UUID) -> StoredTimer | None:
    """Return a timer, or None when there is none of that id."""
    with pool().connection() as connection:
        row = connection.execute(_GET, [timer_id]).fetchone()
    return StoredTimer(*row) if row else None


# A repeated claim with the same token succeeds again: its answer may have
# been lost. Of two wishes for one free timer in a group, an UPDATE takes
# one. The clock is read once: the statement may wait for a lock, and what
# comes due meanwhile would be neither claimed nor early, that is, dropped.
_CLAIM = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() + %(lead)s AS within
),
wish AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[])
         AS wish (id, token)
),
free AS MATERIALIZED (
    SELECT timer.id, wish.token
    FROM wish JOIN timer USING (id)
    WHERE outcome IS NULL
      AND (claim_token = wish.token
           OR fired_at IS NULL AND next_at <= (SELECT within FROM clock))
    ORDER BY timer.id
    FOR UPDATE OF timer
),
claimed AS (
    UPDATE timer
    SET fired_at = greatest(next_at, clock_timestamp()),
        claim_token = free.token,
        leased_until = clock_timestamp() + %(lease)s,
        claims = claims
            + (claim_token IS DISTINCT FROM free.token)::int::smallint
    FROM free WHERE timer.id = free.id
    RETURNING timer.id, claim_token, url, created_at, due_at, next_at,
              connect_failures, retry_until
)
SELECT claim_token, NULL AS wait, claimed.* FROM claimed
UNION ALL
SELECT token, next_at - clock_timestamp(), id,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM wish JOIN timer USING (id)
WHERE {_WAITING} AND next_at > (SELECT within FROM clock)
"""


def claim(wishes: Sequence[Wish]) -> list[Claim | Early | None]:
    """Claim timers; the answers stand in the order of the wishes.

    None means that the timer is someone else's, has ended, or never was.
    """
    with pool().connection() as connection:
        rows = connection.execute(
            _CLAIM,
            {
                "ids": [wish.id for wish in wishes],
                "tokens": [wish.token for wish in wishes],
                "lead": LEAD,
                "lease": LEASE,
            },
        ).fetchall()
        clock = _read_clock(connection)
    answers = dict(_claim_answer(row, clock) for row in rows)
    return [answers.get(wish.token) for wish in wishes]


def _claim_answer(
    row: tuple[Any, ...], clock: ClockReading
) -> tuple[UUID, Claim | Early]:
    token, wait = row[:2]
    if wait is not None:
        return token, Early(wait.total_seconds())
    return token, Claim(clock, *row[2:])


_RENEW = """
WITH kept AS MATERIALIZED (
    SELECT timer.id, wish.token
    FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) AS wish (timer_id, token)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    WHERE outcome IS NULL
    ORDER BY timer.id
    FOR UPDATE OF timer
)
UPDATE timer SET leased_until = clock_timestamp() + %(lease)s
FROM kept WHERE timer.id = kept.id AND claim_token = token
RETURNING token
"""


def renew(claims: Sequence[Wish]) -> list[bool]:
    """Let claims hold for a whole lease again; False where one was lost."""
    with pool().connection() as connection:
        rows = connection.execute(
            _RENEW,
            {
                "ids": [claim.id for claim in claims],
                "tokens": [claim.token for claim in claims],
                "lease": LEASE,
            },
        ).fetchall()
    renewed = {token for (token,) in rows}
    return [claim.token in renewed for claim in claims]


_RECORD = """
WITH report AS MATERIALIZED (
    SELECT timer.id, report.*
    FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(outcomes)s::text[],
                %(sent)s::timestamptz[], %(codes)s::smallint[],
                %(errors)s::text[])
         AS report (timer_id, token, outcome, sent_at, status_code, error)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    ORDER BY timer.id
    FOR UPDATE OF timer
)
UPDATE timer
SET outcome = report.outcome, status_code = report.status_code,
    error = report.error, leased_until = NULL,
    sent_at = coalesce(report.sent_at, timer.sent_at)
FROM report WHERE timer.id = report.id AND claim_token = token
RETURNING token
"""


def record(reports: Sequence[Report]) -> list[bool]:
    """Record what came of calls; False where the claim was lost by then.

    Repeating a record is harmless, and a late one turns the `unknown` of
    its own claim into the answer.
    """
    with pool().connection() as connection:
        rows = connection.execute(
            _RECORD,
            {
                "ids": [report.id for report in reports],
                "tokens": [report.token for report in reports],
                "outcomes": [report.outcome.value for report in reports],
                "sent": [report.sent_at for report in reports],
                "codes": [report.status_code for report in reports],
                "errors": [report.error for report in reports],
            },
        ).fetchall()
    recorded = {token for (token,) in rows}
    return [report.token in recorded for report in reports]


_POSTPONE = """
WITH again AS MATERIALIZED (
    SELECT timer.id, again.*
    FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(delays)s::interval[],
                %(until)s::timestamptz[], %(errors)s::text[])
         AS again (timer_id, token, delay, retry_until, error)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    WHERE outcome IS NULL
    ORDER BY timer.id
    FOR UPDATE OF timer
)
UPDATE timer
SET fired_at = NULL, claim_token = NULL, leased_until = NULL,
    queued_at = NULL, claims = 0, next_at = clock_timestamp() + delay,
    connect_failures = connect_failures + 1,
    retry_until = again.retry_until, error = again.error
FROM again WHERE timer.id = again.id AND claim_token = token
RETURNING token
"""


def postpone(timers: Sequence[Postponement]) -> list[bool]:
    """Open claimed timers again, for a later try; False where lost.

    Their `next_at` moves, so that nothing takes them for overdue.
    """
    with pool().connection() as connection:
        rows = connection.execute(
            _POSTPONE,
            {
                "ids": [timer.id for timer in timers],
                "tokens": [timer.token for timer in timers],
                "delays": [timer.delay for timer in timers],
                "until": [timer.retry_until for timer in timers],
                "errors": [timer.error for timer in timers],
            },
        ).fetchall()
    postponed = {token for (token,) in rows}
    return [timer.token in postponed for timer in timers]


_CANCEL = f"""
UPDATE timer
SET outcome = '{Outcome.CANCELLED.value}', queued_at = NULL
WHERE id = %s AND {_WAITING} AND sent_at IS NULL
RETURNING id
"""


def cancel(timer_id: UUID) -> bool:
    """Cancel a waiting timer; False when it isn't waiting any more.

    Nor can one be cancelled that waits to be sent once more (at least
    once): cancelled means never called.

    The claim re-checks `outcome` under the row's lock, so of a cancel and
    a claim at the same time exactly one succeeds.
    """
    with pool().connection() as connection:
        return bool(connection.execute(_CANCEL, [timer_id]).rowcount)


_MARK_SENT = """
WITH mark AS MATERIALIZED (
    SELECT timer.id, mark.token, mark.sent_at
    FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(sent)s::timestamptz[])
         AS mark (timer_id, token, sent_at)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    WHERE outcome IS NULL
    ORDER BY timer.id
    FOR UPDATE OF timer
)
UPDATE timer SET sent_at = mark.sent_at
FROM mark WHERE timer.id = mark.id AND claim_token = token
"""


def mark_sent(marks: Sequence[Mark]) -> None:
    """Note that requests have left; without effect once recorded."""
    with pool().connection() as connection:
        connection.execute(
            _MARK_SENT,
            {
                "ids": [mark.id for mark in marks],
                "tokens": [mark.token for mark in marks],
                "sent": [mark.sent_at for mark in marks],
            },
        )


_UNQUEUE = f"""
WITH unsent AS MATERIALIZED (
    SELECT id FROM timer WHERE id = ANY(%(ids)s) AND {_WAITING}
    ORDER BY id
    FOR UPDATE
)
UPDATE timer SET queued_at = NULL FROM unsent WHERE timer.id = unsent.id
"""


def unqueue(timer_ids: Sequence[UUID]) -> None:
    """Clear the queue mark of timers whose message did not get through."""
    with pool().connection() as connection:
        connection.execute(_UNQUEUE, {"ids": list(timer_ids)})


# What is overdue and what is ahead are asked for apart, so that a backlog
# of the one never stands before the other.
_OVERDUE = "next_at < now() - %(overdue_after)s"
_AHEAD = (
    "next_at >= now() - %(overdue_after)s AND next_at < now() + %(ahead)s"
)


def _promote_sql(span: str) -> str:
    return f"""
    WITH near AS MATERIALIZED (
        SELECT id FROM timer
        WHERE {_WAITING} AND queued_at IS NULL AND {span}
        ORDER BY next_at LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE timer SET queued_at = clock_timestamp()
    FROM near WHERE timer.id = near.id
    RETURNING timer.id, next_at
    """


def _due_sql(span: str) -> str:
    return f"""
    SELECT id, next_at FROM timer
    WHERE {_WAITING} AND queued_at IS NULL AND {span}
    ORDER BY next_at LIMIT %(limit)s
    """


_PROMOTE = {True: _promote_sql(_OVERDUE), False: _promote_sql(_AHEAD)}
_DUE = {True: _due_sql(_OVERDUE), False: _due_sql(_AHEAD)}

_LOST = f"""
WITH lost AS MATERIALIZED (
    SELECT id FROM timer
    WHERE {_WAITING} AND queued_at IS NOT NULL
      AND next_at < now() - %(lost_after)s
      AND CASE WHEN %(idle)s THEN queued_at ELSE greatest(queued_at, next_at)
          END < now() - %(requeue_after)s
    ORDER BY next_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE timer SET queued_at = clock_timestamp()
FROM lost WHERE timer.id = lost.id
RETURNING timer.id, next_at
"""


def _near(query: str, overdue: bool, **values: Any) -> list[Near]:
    """Run a query that returns timers' ids and times."""
    values["overdue_after"] = OVERDUE_AFTER
    with pool().connection() as connection:
        rows = connection.execute(query, values).fetchall()
        if not rows:
            return []
        clock = _read_clock(connection)
    return [
        Near(timer_id, clock.to_monotonic(next_at), overdue)
        for timer_id, next_at in rows
    ]


def promote(*, overdue: bool, limit: int) -> list[Near]:
    """Mark waiting timers as queued and return them, to be published.

    Either those whose time has passed or those due within the horizon;
    what another dispatcher is just marking is skipped.
    """
    return _near(_PROMOTE[overdue], overdue, ahead=HORIZON, limit=limit)


def due(*, overdue: bool, ahead: timedelta, limit: int) -> list[Near]:
    """Return waiting, unqueued timers without marking them."""
    return _near(_DUE[overdue], overdue, ahead=ahead, limit=limit)


def lost(*, idle: bool, limit: int) -> list[Near]:
    """Mark anew, and return, timers whose message seems to be lost.

    They are overdue by 2 s though queued. While RabbitMQ's queues stand
    empty (`idle`) that is a loss; while they do not it may be a backlog,
    and a timer is queued again only after a minute.
    """
    return _near(
        _LOST, True, idle=idle, lost_after=LOST_AFTER, limit=limit,
        requeue_after=REQUEUE_IDLE if idle else REQUEUE_BUSY,
    )


# Each CASE reads the state that the lock protects. A timer that gave up
# or may have been sent keeps its token, so that a late record still finds
# it; one that is opened again does not, so that a late record does not.
# It keeps its `sent_at`, though: it can't be cancelled any more, and if
# it gives up later, it may have been received.
_TAKE_OVER = f"""
WITH ended AS MATERIALIZED (
    SELECT id,
           CASE WHEN sent_at IS NOT NULL
                     AND (claims > %(most)s OR NOT at_least_once)
                THEN '{Outcome.UNKNOWN.value}'
                WHEN claims > %(most)s THEN '{Outcome.FAILED.value}'
           END AS verdict
    FROM timer
    WHERE leased_until < now()
      AND now() - pg_postmaster_start_time() > %(settle)s
    ORDER BY leased_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE timer
SET leased_until = NULL,
    queued_at = NULL,
    outcome = verdict,
    error = CASE verdict
        WHEN '{Outcome.UNKNOWN.value}'
            THEN 'unknown: the worker died after the request had left'
        WHEN '{Outcome.FAILED.value}'
            THEN 'worker_lost: ' || claims || ' workers died before the call'
        END,
    fired_at = CASE WHEN verdict IS NOT NULL THEN fired_at END,
    claim_token = CASE WHEN verdict IS NOT NULL THEN claim_token END
FROM ended WHERE timer.id = ended.id
RETURNING timer.id, verdict
"""


def take_over(*, limit: int) -> list[tuple[UUID, Outcome | None]]:
    """End or open again the claims whose lease has ended.

    A request that had left is not sent again (`unknown`), unless the
    timer asks for that. One that had not is: the timer is open again
    (None), up to five times.
    """
    with pool().connection() as connection:
        rows = connection.execute(
            _TAKE_OVER,
            {"most": MOST_REOPENINGS, "settle": SETTLE, "limit": limit},
        ).fetchall()
    return [
        (timer_id, Outcome(verdict) if verdict else None)
        for timer_id, verdict in rows
    ]


# Two halves, since each of the two partial indexes serves only one.
_COUNT = f"""
SELECT count(*) FILTER (WHERE next_at < now()),
       count(*) FILTER (WHERE next_at >= now())
FROM (
    SELECT next_at FROM timer
    WHERE {_WAITING} AND queued_at IS NULL AND next_at < now() + %(ahead)s
    UNION ALL
    SELECT next_at FROM timer
    WHERE {_WAITING} AND queued_at IS NOT NULL AND next_at < now() + %(ahead)s
) AS near
"""


def count_near() -> tuple[int, int]:
    """Return how many waiting timers are overdue and how many are near."""
    with pool().connection() as connection:
        row = connection.execute(_COUNT, {"ahead": HORIZON}).fetchone()
    assert row is not None
    return row[0], row[1]


def notify() -> None:
    """Wake whoever feeds timers to the workers."""
    with pool().connection() as connection:
        connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])

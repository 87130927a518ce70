"""Claims whose worker has died, and rows that nothing else would find."""

import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from apps.core.database import STALL, pool
from apps.core.rows import Row
from apps.timers.models import Outcome
from apps.timers.storage import claiming, reading
from apps.timers.storage.aside import (
    bad_free,
    each_for_itself,
    found,
    set_aside,
    skip,
    skipped,
)
from apps.timers.storage.claim_records import Answered
from apps.timers.storage.records import ClockReading, read_clock

#: How often a claim that ended unsent is opened again. After that the timer
#: itself may be what kills its workers.
MOST_REOPENINGS = 5
#: Nothing is taken over this soon after Postgres's own start, or after it
#: was out of reach: workers that could not report by then must be able to
#: report first.
SETTLE = timedelta(seconds=10)

#: No claim is taken over soon after a start of Postgres, or during a stall.
_LEASE_ENDED = """
    leased_until < now() AND outcome IS NULL
    AND now() - pg_postmaster_start_time() > %(settle)s
    AND now() - %(asked)s < %(stall)s
    AND id <> ALL(%(skipped)b::uuid[])
"""
LEASED_IDS = f"""
SELECT id FROM timer WHERE {_LEASE_ENDED}
ORDER BY leased_until LIMIT %(limit)s
"""
#: When this claim's request left; NULL if that is not known.
_LEFT_AT = "CASE WHEN sent_at >= fired_at THEN sent_at END"

# Claims of dead workers that got an answer. Its status decides what follows.
# What may be retried waits while calls are held: its time would move, and then
# `reconciling` would not find it.
ANSWERED = f"""
SELECT answered, {_LEFT_AT} AS left_at, {reading.CLAIMED}
FROM timer
WHERE {_LEASE_ENDED} AND answered IS NOT NULL
  AND (retry IS NULL OR NOT EXISTS (SELECT FROM hold))
ORDER BY leased_until LIMIT %(limit)s
"""

# Each CASE reads the state that the lock protects. A timer that gave up or may
# have been sent keeps its token: a late record still finds it. A timer that is
# opened again loses its token: a late record does not find it. It keeps its
# `sent_at`, though: it can't be cancelled any more, and if it gives up later,
# it may have been received. A `sent_at` before `next_at` belongs to an attempt
# whose answer is known, unless the timer asks for more (at least once).
TAKE_OVER = f"""
WITH ended AS MATERIALIZED (
    SELECT id,
           CASE WHEN NOT at_least_once AND sent_at >= next_at
                THEN 'unknown'
                WHEN claims > %(most)s AND at_least_once
                     AND sent_at IS NOT NULL
                THEN 'unknown'
                WHEN claims > %(most)s THEN 'failed'
           END AS decision,
           attempts + claims AS number, next_at AS tried_at,
           {_LEFT_AT} AS left_at, account_id, host,
           CASE WHEN {_LEFT_AT} IS NULL
                THEN 'worker_lost: the worker died before the call'
                ELSE 'unknown: the worker died after the request had left'
           END AS failure
    FROM timer
    WHERE {_LEASE_ENDED} AND answered IS NULL
    ORDER BY leased_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
over AS (
    UPDATE timer
    SET leased_until = NULL,
        queued_at = NULL,
        outcome = decision,
        error = CASE decision
            WHEN 'unknown'
                THEN 'unknown: the worker died after the request had left'
            WHEN 'failed'
                THEN 'worker_lost: ' || claims || ' workers died before the'
                     ' call'
            ELSE timer.error
            END,
        fired_at = CASE WHEN decision IS NOT NULL THEN fired_at END,
        claim_token = CASE WHEN decision IS NOT NULL THEN claim_token END
    FROM ended WHERE timer.id = ended.id
    RETURNING ended.*
),
kept AS (
    INSERT INTO attempt (timer_id, number, due_at, sent_at, error)
    SELECT id, number, tried_at, left_at, failure FROM over
    ON CONFLICT DO NOTHING
),
tallied AS (
    INSERT INTO tally (at, account_id, host, outcome, due_at, sent_at,
                       failure)
    SELECT now(), account_id, host, decision, tried_at, left_at,
           split_part(failure, ':', 1)
    FROM over
)
SELECT id, decision FROM over
"""

# Only SQL by hand, or a clock that was set back, makes such rows. Each part is
# an index scan. With parameters instead of '1 min' and 500, Postgres plans
# this anew each time, which takes ten times as long.
STUCK = """
(SELECT id, false AS is_leased FROM timer
 WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NULL
   AND next_at > '9999-12-30T00:00Z' AND id <> ALL(%(skipped)b::uuid[])
 ORDER BY next_at LIMIT 500)
UNION ALL
(SELECT id, false FROM timer
 WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NOT NULL
   AND next_at > '9999-12-30T00:00Z' AND id <> ALL(%(skipped)b::uuid[])
 ORDER BY next_at LIMIT 500)
UNION ALL
(SELECT id, true FROM timer
 WHERE leased_until > now() + interval '1 min'
   AND id <> ALL(%(skipped)b::uuid[])
 ORDER BY leased_until LIMIT 500)
UNION ALL
(SELECT id, true FROM timer
 WHERE leased_until < now() AND outcome IS NOT NULL
   AND id <> ALL(%(skipped)b::uuid[])
 ORDER BY leased_until LIMIT 500)
UNION ALL
(SELECT id, true FROM timer
 WHERE fired_at IS NOT NULL AND outcome IS NULL AND leased_until IS NULL
   AND id <> ALL(%(skipped)b::uuid[])
 ORDER BY fired_at LIMIT 500)
"""
LIMIT_LEASES = """
WITH wrong AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b)
      AND (leased_until > now() + interval '1 min'
           OR fired_at IS NOT NULL AND outcome IS NULL
              AND leased_until IS NULL
           OR leased_until IS NOT NULL AND outcome IS NOT NULL)
    ORDER BY id
    FOR UPDATE SKIP LOCKED
)
UPDATE timer
SET leased_until = CASE WHEN fired_at IS NOT NULL AND outcome IS NULL
                        THEN clock_timestamp() + %(lease)s END
FROM wrong WHERE timer.id = wrong.id
"""


def take_over(*, limit: int) -> list[tuple[UUID, Outcome | None]]:
    """Take over the claims whose lease has ended.

    A request that had left is not sent again (`unknown`), unless the timer
    asks for that. If it had not left, the timer is open again (None), up to
    five times. Claims that are `answered` are left as they are.
    """
    rows, _ = _lease_ended(TAKE_OVER, limit)
    return [
        (row["id"], Outcome(row["decision"]) if row["decision"] else None)
        for row in rows
    ]


def answered(*, limit: int) -> list[Answered]:
    """Return the claims whose lease has ended after they were answered."""
    rows, clock = _lease_ended(ANSWERED, limit)

    def read(some: Sequence[Row]) -> list[Answered]:
        return [reading.answered(row, clock) for row in some]

    return each_for_itself(
        read, rows, lambda row, error: bad_free(row["id"], error)
    )


def _lease_ended(query: str, limit: int) -> tuple[list[Row], ClockReading]:
    """Run a query for claims whose lease has ended.

    A statement that was held up on its way does nothing: marks may have been
    held up, too.
    """
    began = time.monotonic()
    with pool().connection() as connection:
        clock = read_clock(connection)
        if clock.monotonic - began > STALL:
            return [], clock
        rows = found(
            connection,
            query,
            LEASED_IDS,
            most=MOST_REOPENINGS,
            settle=SETTLE,
            asked=clock.database,
            stall=timedelta(seconds=STALL),
            limit=limit,
        )
    return rows, clock


def free_stuck() -> None:
    """Free rows that nothing else would find again, 500 of a kind.

    A timer that waits for a time that never comes ends as failed. A lease
    that is missing, or ends in more than a minute (Postgres's clock may have
    been set back), becomes one of `LEASE`: its worker may still report, else
    the timer is taken over. A lease that an ended timer still has is removed.
    """
    values = {"skipped": skipped.ids()}
    with pool().connection() as connection:
        rows = connection.execute(STUCK, values).fetchall()
    for timer_id, is_leased in rows:
        if not is_leased:
            error = ValueError("next_at is after the year 9999")
            set_aside(timer_id, error)
    if leased := [timer_id for timer_id, is_leased in rows if is_leased]:
        each_for_itself(_limit_leases, leased, skip)


def _limit_leases(timer_ids: Sequence[UUID]) -> list[None]:
    values = {"ids": list(timer_ids), "lease": claiming.LEASE}
    with pool().connection() as connection:
        connection.execute(LIMIT_LEASES, values)
    return []

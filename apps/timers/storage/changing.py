"""What users change about a timer: they cancel it, or replay it."""

from collections.abc import Sequence
from uuid import UUID

from apps.core.database import pool
from apps.timers.storage.aside import (
    each_for_itself,
    reason,
    skipped,
    writing_one,
)
from apps.timers.storage.queueing import CHANNEL

#: A timer with this many attempts is not replayed. Replays in a loop would
#: call its receiver for ever.
MOST_ATTEMPTS = 1_000

# A timer that is to be retried may have been called. It can be cancelled all
# the same: it is not called again.
CANCEL = """
UPDATE timer
SET outcome = 'cancelled', queued_at = NULL
WHERE id = %s AND fired_at IS NULL AND outcome IS NULL
  AND (sent_at IS NULL OR retries > 0)
"""

# The numbers of the attempts go on. From now on, a late record or mark belongs
# to a lost claim: the token is gone.
REPLAY = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now, pg_notify('{CHANNEL}', '')
),
given_up AS MATERIALIZED (
    SELECT id FROM timer
    WHERE outcome IN ('failed', 'unknown', 'missed') AND id = ANY(%(ids)b)
      AND attempts::bigint + claims < %(most)s
    ORDER BY id
    FOR UPDATE
)
UPDATE timer
SET outcome = NULL, error = NULL, status_code = NULL, deferred = false,
    fired_at = NULL, claim_token = NULL, leased_until = NULL,
    queued_at = NULL, sent_at = NULL, answered = NULL,
    retries = 0, connect_failures = 0, retry_until = NULL,
    attempts = attempts + claims, claims = 0,
    next_at = now, replayed_at = now
FROM clock, given_up WHERE timer.id = given_up.id
RETURNING timer.id
"""


def cancel(timer_id: UUID) -> bool:
    """Cancel a waiting timer; False when it isn't waiting any more.

    A timer whose call failed, and is to be retried, is not called again. A
    timer that was called, and is sent again only because its worker died (at
    least once), can't be cancelled: it may have been received.

    The claim re-checks `outcome` under the row's lock. So if a cancel and a
    claim come at the same time, exactly one succeeds. Raises RowUnwritable.
    """
    with writing_one(), pool().connection() as connection:
        return bool(connection.execute(CANCEL, [timer_id]).rowcount)


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
        rows = connection.execute(REPLAY, values).fetchall()
    return [timer_id for (timer_id,) in rows]

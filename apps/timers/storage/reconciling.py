"""After a restore: ending the timers that may have fired since the backup.

They look as if they had never fired. Whatever was called before a moment had
a time before it, unless a caller moved it after the backup. A timer that was
set later has not fired either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.accounts.log import LoggedChange
from apps.core.database import connect, pool
from apps.core.rows import named
from apps.timers.storage.aside import each_for_itself, skip, skipped

# A claim whose worker died after the answer ends as the answer says, unless
# that leads to a retry.
_DUE = """
    outcome IS NULL AND next_at < %(before)s AND created_at < %(before)s
    AND NOT (answered IS NOT NULL
             AND (retry IS NULL OR answered BETWEEN 200 AND 299))
"""
#: Where they are; each has an index.
_PLACES = (
    "fired_at IS NULL AND queued_at IS NULL",
    "fired_at IS NULL AND queued_at IS NOT NULL",
    "leased_until IS NOT NULL",
    "fired_at IS NOT NULL AND leased_until IS NULL",
)
_UNCLAIMED = "(leased_until IS NULL OR leased_until < now())"

_ALL = " UNION ALL ".join(
    f"""
    SELECT next_at, at_least_once, {_UNCLAIMED} AS is_free
    FROM timer WHERE {place} AND {_DUE}
    """
    for place in _PLACES
)
COUNT = f"""
SELECT now(),
       count(*) FILTER (WHERE is_free AND NOT at_least_once) AS to_end,
       count(*) FILTER (WHERE is_free AND at_least_once) AS to_call,
       count(*) FILTER (WHERE NOT is_free) AS under_way,
       greatest(min(next_at), 'epoch') AS first_due,
       greatest(max(next_at), 'epoch') AS last_due
FROM ({_ALL}) AS due
"""

IDS = " UNION ALL ".join(
    f"""
    (SELECT id FROM timer
     WHERE {place} AND {_DUE} AND {_UNCLAIMED} AND NOT at_least_once
       AND id <> ALL(%(skipped)b::uuid[])
     LIMIT 500)
    """
    for place in _PLACES
)

# The token stays: a late record, if there is one, still says more.
END = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b) AND {_DUE} AND {_UNCLAIMED} AND NOT at_least_once
      AND EXISTS (SELECT FROM hold)
    ORDER BY id
    FOR UPDATE
),
ended AS (
    UPDATE timer
    SET outcome = 'unknown', version = version + 1, queued_at = NULL,
        leased_until = NULL, answered = NULL,
        error = 'unknown: it may have been called after the backup from which'
                || ' the database was restored'
    FROM due WHERE timer.id = due.id
    RETURNING timer.id, account_id, host
),
noted AS (
    INSERT INTO event (timer_id, at, what)
    SELECT id, clock_timestamp(), 'reconciled' FROM ended
),
tallied AS (
    INSERT INTO tally (at, account_id, host, outcome)
    SELECT now(), account_id, host, 'unknown' FROM ended
)
SELECT id FROM ended
"""


@dataclass(frozen=True, slots=True)
class Due:
    """The timers that were due before a moment, and have not ended.

    now        Postgres's clock
    to_end     how many `end` ends
    to_call    how many are called all the same: their creators ask for at
               least one call
    under_way  how many are claimed now
    first_due, last_due  when they were due; None if there are none
    """

    now: datetime
    to_end: int
    to_call: int
    under_way: int
    first_due: datetime | None
    last_due: datetime | None


def count(before: datetime) -> Due:
    """Count the timers that were due before a moment, and have not ended."""
    with connect() as connection:
        (row,) = named(connection.execute(COUNT, {"before": before}))
    return Due(**row)


def end(before: datetime, logged: LoggedChange | None = None) -> int:
    """End those as unknown, 500 in a commit; return how many.

    Nothing is ended while calls are not held. A row that can't be written
    stays as it is.
    """

    def run(timer_ids: Sequence[UUID]) -> list[UUID]:
        values = {"before": before, "ids": list(timer_ids)}
        with pool().connection() as connection, connection.transaction():
            rows = connection.execute(END, values).fetchall()
            if rows and logged:
                logged.log(connection, len(rows))
        return [timer_id for (timer_id,) in rows]

    total = 0
    while done := each_for_itself(run, _ids(before), skip):
        total += len(done)
    return total


def _ids(before: datetime) -> list[UUID]:
    values = {"before": before, "skipped": skipped.ids()}
    with pool().connection() as connection:
        rows = connection.execute(IDS, values).fetchall()
    return [timer_id for (timer_id,) in rows]

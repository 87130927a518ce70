"""Reading what goes on now: what comes next, and how much of it there is.

Each statement reads as many rows as it shows or counts, by an index, however
many timers there are.
"""

from dataclasses import dataclass

from apps.core.database import Connection
from apps.core.rows import named
from apps.timers.models import GAVE_UP
from apps.timers.storage import finding, reading
from apps.timers.storage.records import StoredTimer, TimerFilter

#: Beyond this many, timers are not counted.
MOST = 1_000

#: What waits stands in two indexes, by `next_at`.
_WAITING = tuple(
    "account_id = %(account)s AND fired_at IS NULL AND outcome IS NULL"
    f" AND queued_at IS {queued}"
    for queued in ("NULL", "NOT NULL")
)

_FIRST_OF_EACH = " UNION ALL ".join(
    f"""
    (SELECT id, next_at FROM timer WHERE {waiting}
     ORDER BY next_at LIMIT %(limit)s)
    """
    for waiting in _WAITING
)
NEXT = f"""
SELECT {reading.SHOWN} FROM timer
WHERE id = ANY(ARRAY(
    SELECT id FROM ({_FIRST_OF_EACH}) AS found ORDER BY next_at LIMIT %(limit)s
))
ORDER BY next_at, id
"""
# For an account that has few: to look for them among all others' would take
# long.
NEXT_OF_FEW = f"""
SELECT {reading.SHOWN} FROM (
    SELECT * FROM timer
    WHERE account_id = %(account)s AND fired_at IS NULL AND outcome IS NULL
      AND ({reading.STATUS}) COLLATE "C"
          IN ('scheduled', 'deferred', 'retrying')
    OFFSET 0
) AS waiting
ORDER BY next_at, id LIMIT %(limit)s
"""


def _counted(condition: str) -> str:
    parts = " UNION ALL ".join(
        f"(SELECT FROM timer WHERE {waiting} AND {condition} LIMIT %(most)s)"
        for waiting in _WAITING
    )
    return f"(SELECT count(*) FROM ({parts} LIMIT %(most)s) AS counted)"


# A timer that is called on time is overdue for milliseconds. The order has
# Postgres take the index: nearly all timers have ended, and their times are
# over as well, so that it expects to find many anywhere.
COUNTS = f"""
SELECT {_counted("next_at < now() - interval '1 s' ORDER BY next_at")}
           AS overdue,
       {_counted('''next_at >= now() - interval '1 s'
                    AND next_at < now() + interval '1 min' ''')} AS soon,
       (SELECT count(*) FROM (
            SELECT FROM timer
            WHERE account_id = %(account)s AND leased_until IS NOT NULL
            LIMIT %(most)s
        ) AS counted) AS firing,
       now() AS now, now() - interval '1 hour' AS an_hour_ago
"""


# There are no more of them than workers have threads.
CALLING = """
SELECT host, count(*) FROM timer
WHERE account_id = %(account)s AND leased_until IS NOT NULL
  AND host IS NOT NULL
GROUP BY host
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many timers there are; MOST stands for that many or more.

    overdue  wait although their time passed a second ago
    soon     come within a minute
    firing   are being called
    gave_up  were due in the last hour, and gave up
    """

    overdue: int
    soon: int
    firing: int
    gave_up: int


def coming(
    connection: Connection, account: int, limit: int, *, has_few: bool
) -> list[StoredTimer]:
    """Return the account's timers that are called next, in order.

    `has_few`: whether only some thousands of its timers wait.
    """
    query = NEXT_OF_FEW if has_few else NEXT
    return reading.stored_timers(
        connection, query, {"account": account, "limit": limit}
    )


def ended(
    connection: Connection, account: int, limit: int
) -> list[StoredTimer]:
    """Return the account's timers that were called or missed.

    They are those with the latest due time up to now.
    """
    row = named(connection.execute("SELECT now()"))[0]
    of = TimerFilter(
        ("delivered", *GAVE_UP), until=row["now"], latest_first=True
    )
    return reading.stored_timers(
        connection, *finding.statement(connection, account, of, limit)
    )


def counts(connection: Connection, account: int) -> Counts:
    """Count the account's timers, up to MOST of each."""
    values = {"account": account, "most": MOST}
    row = named(connection.execute(COUNTS, values))[0]
    gave_up = TimerFilter(
        GAVE_UP, since=row.pop("an_hour_ago"), until=row.pop("now")
    )
    return Counts(
        **row, gave_up=finding.count(connection, account, gave_up, MOST)
    )


def calling(connection: Connection, account: int) -> dict[str, int]:
    """Return how many of the account's timers are being called, by host."""
    rows = connection.execute(CALLING, {"account": account}).fetchall()
    return dict(rows)

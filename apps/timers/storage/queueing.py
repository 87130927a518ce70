"""Finding the timers whose time is near, and marking them as queued.

Overdue timers and near timers are asked for separately: a backlog of one kind
never delays the other. `now()` stands in the conditions, since an index can't
serve a volatile function.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.core.database import Connection, connect, pool
from apps.core.rows import named
from apps.timers.storage.aside import bad_free, each_for_itself, found
from apps.timers.storage.reading import IS_WAITING
from apps.timers.storage.records import DueMessage, read_clock

#: Dispatchers and feeders listen here.
CHANNEL = "timers_near"
#: Near timers sleep in RabbitMQ, farther ones in Postgres alone.
HORIZON = timedelta(seconds=60)
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

_OVERDUE = "next_at < now() - %(overdue_after)s"
_AHEAD = (
    "next_at >= now() - %(overdue_after)s AND next_at < now() + %(ahead)s"
)
# Python has no moment for '-infinity' or for any time before Christ.
_MOMENT = "greatest(next_at, 'epoch') AS moment"


def _due(span: str) -> str:
    return f"""
    SELECT id, {_MOMENT} FROM timer
    WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NULL
      AND {span} AND id <> ALL(%(skipped)b::uuid[])
    ORDER BY next_at LIMIT %(limit)s
    """


def _promote(span: str) -> str:
    return f"""
    WITH near AS MATERIALIZED (
        SELECT id FROM timer
        WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NULL
          AND {span} AND id <> ALL(%(skipped)b::uuid[])
        ORDER BY next_at LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE timer SET queued_at = clock_timestamp()
    FROM near WHERE timer.id = near.id
    RETURNING timer.id, {_MOMENT}
    """


#: Each for the overdue timers (True), and for those ahead (False).
DUE = {True: _due(_OVERDUE), False: _due(_AHEAD)}
PROMOTE = {True: _promote(_OVERDUE), False: _promote(_AHEAD)}

_AMONG = f"{_OVERDUE} AND id = ANY(%(given)b)"
#: Of some timers, those that are overdue; whether they are marked as queued.
AMONG = {False: _due(_AMONG), True: _promote(_AMONG)}

# These two read the whole backlog: there is no index by accounts and times.
# Each create would have to write it.
# OFFSET keeps the order out of the plan: read in it, 100,000 rows are read one
# by one. A cast array is hashed, a smallint[] is searched for each row.
OVERDUE_OF = f"""
SELECT id, account_id FROM (
    SELECT id, account_id, next_at FROM timer
    WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NULL
      AND {_OVERDUE} AND account_id = ANY(%(accounts)b::integer[])
    OFFSET 0
) AS theirs
ORDER BY next_at LIMIT %(limit)s
"""
BACKLOGS = f"""
SELECT account_id, count(*) AS timers FROM timer
WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NULL
  AND {_OVERDUE}
GROUP BY account_id
ORDER BY timers, account_id LIMIT %(limit)s
"""

# A queue mark is in the future if the clock was set back since.
_LOST = """
    fired_at IS NULL AND outcome IS NULL AND queued_at IS NOT NULL
    AND next_at < now() - %(lost_after)s
    AND (CASE WHEN %(idle)s THEN queued_at ELSE greatest(queued_at, next_at)
         END < now() - %(requeue_after)s
         OR queued_at > now() + %(requeue_after)s)
    AND id <> ALL(%(skipped)b::uuid[])
    ORDER BY next_at LIMIT %(limit)s
"""
LOST_IDS = f"SELECT id FROM timer WHERE {_LOST}"
LOST = f"""
WITH lost AS MATERIALIZED (
    SELECT id FROM timer WHERE {_LOST} FOR UPDATE SKIP LOCKED
)
UPDATE timer SET queued_at = clock_timestamp()
FROM lost WHERE timer.id = lost.id
RETURNING timer.id, {_MOMENT}
"""

UNQUEUE = f"""
WITH unsent AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b) AND {IS_WAITING}
    ORDER BY id
    FOR UPDATE
)
UPDATE timer SET queued_at = NULL FROM unsent
WHERE timer.id = unsent.id AND queued_at IS NOT NULL
"""

# Of the messages of a timer that was moved, one is sent back: the one that
# comes at `arrives_at`, or up to a second before, since RabbitMQ may be early.
# From then on another time counts, which is returned: the timer may have been
# moved again since the message came. So one of them goes on, and the others
# end. No index has `arrives_at`, so none is written.
TAKE_BACK = f"""
WITH early AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b) AND {IS_WAITING}
      AND queued_at IS NOT NULL
      AND arrives_at <= clock_timestamp() + interval '1 s'
    ORDER BY id
    FOR UPDATE
)
UPDATE timer SET arrives_at = next_at FROM early WHERE timer.id = early.id
RETURNING timer.id, {_MOMENT}
"""

# Two halves, since each of the two partial indexes serves only one.
COUNT = """
SELECT count(*) FILTER (WHERE next_at < now()),
       count(*) FILTER (WHERE next_at >= now())
FROM (
    SELECT next_at FROM timer
    WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NULL
      AND next_at < now() + %(ahead)s
    UNION ALL
    SELECT next_at FROM timer
    WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NOT NULL
      AND next_at < now() + %(ahead)s
) AS near
"""


def due(*, overdue: bool, ahead: timedelta, limit: int) -> list[DueMessage]:
    """Return waiting, unqueued timers without marking them."""
    return _near(DUE[overdue], DUE[overdue], overdue, ahead=ahead, limit=limit)


def promote(*, overdue: bool, limit: int) -> list[DueMessage]:
    """Mark waiting timers as queued and return them, to be published.

    Either those whose time has passed or those due within the horizon. Timers
    that another dispatcher is marking are skipped.
    """
    return _near(
        PROMOTE[overdue], DUE[overdue], overdue, ahead=HORIZON, limit=limit
    )


def backlogs(*, limit: int) -> dict[int, int]:
    """Return how many overdue timers accounts have that are not queued.

    Those with the fewest come first. That takes long if there are many timers.
    """
    values = {"overdue_after": OVERDUE_AFTER, "limit": limit}
    with pool().connection() as connection:
        return dict(connection.execute(BACKLOGS, values).fetchall())


def overdue_of(accounts: Sequence[int], *, limit: int) -> list[UUID]:
    """Return overdue timers of some accounts that are not queued.

    They come in the order of the accounts, and each account's oldest first.
    That takes long if there are many of all accounts.
    """
    values = {
        "accounts": list(accounts), "limit": limit,
        "overdue_after": OVERDUE_AFTER,
    }
    with pool().connection() as connection:
        rows = connection.execute(OVERDUE_OF, values).fetchall()
    places = {account: place for place, account in enumerate(accounts)}
    rows.sort(key=lambda row: places[row[1]])
    return [timer_id for timer_id, _ in rows]


def overdue_among(
    timer_ids: Sequence[UUID], *, promote: bool
) -> list[DueMessage]:
    """Return those of the timers that are overdue, to be fired as if on time.

    `promote` says whether they are marked as queued.
    """
    return _near(
        AMONG[promote], AMONG[False], False,
        given=list(timer_ids), limit=len(timer_ids),
    )


def lost(*, idle: bool, limit: int) -> list[DueMessage]:
    """Mark again, and return, timers whose message seems to be lost.

    They are queued, and overdue by 2 s. While RabbitMQ's queues are empty
    (`idle`), that is a loss. While they are not, it may be a backlog, and a
    timer is queued again only after a minute.
    """
    return _near(
        LOST, LOST_IDS, True, idle=idle, lost_after=LOST_AFTER, limit=limit,
        requeue_after=REQUEUE_IDLE if idle else REQUEUE_BUSY,
    )


def _near(
    query: str, ids: str, overdue: bool, **values: Any
) -> list[DueMessage]:
    """Run a query that returns timers' ids and moments."""
    values["overdue_after"] = OVERDUE_AFTER
    with pool().connection() as connection:
        rows = found(connection, query, ids, **values)
        return _due_messages(connection, rows, overdue=overdue)


def _due_messages(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    *,
    overdue: bool = False,
) -> list[DueMessage]:
    if not rows:
        return []
    clock = read_clock(connection)
    return [
        DueMessage(row["id"], clock.to_monotonic(row["moment"]), overdue)
        for row in rows
    ]


def unqueue(timer_ids: Sequence[UUID]) -> None:
    """Clear the queue mark of timers whose message did not get through."""

    def run(some: Sequence[UUID]) -> list[None]:
        with pool().connection() as connection:
            connection.execute(UNQUEUE, {"ids": list(some)})
        return []

    each_for_itself(run, timer_ids, bad_free)


def take_back(timer_ids: Sequence[UUID]) -> list[DueMessage]:
    """Return those moved timers whose early message is to be sent back.

    Their times are those that the messages are to have. Of the others another
    message is on its way, or they are far.
    """

    def run(some: Sequence[UUID]) -> list[DueMessage]:
        with pool().connection() as connection:
            rows = named(connection.execute(TAKE_BACK, {"ids": list(some)}))
            return _due_messages(connection, rows)

    return each_for_itself(run, timer_ids, bad_free)


def count_near() -> tuple[int, int]:
    """Return how many waiting timers are overdue and how many are near.

    That takes long if there are many millions.
    """
    with connect() as connection:
        row = connection.execute(COUNT, {"ahead": HORIZON}).fetchone()
    assert row is not None
    return row[0], row[1]


def notify() -> None:
    """Wake the dispatchers and feeders."""
    with pool().connection() as connection:
        connection.execute("SELECT pg_notify(%s, '')", [CHANNEL])

"""What keeps Postgres from cleaning up, told before claims become slow.

While a snapshot is held, no dead row that is newer can be removed, so that
each claim has to step over more and more of them. When the transaction numbers
run out, Postgres takes no writes at all.
"""

import time
from datetime import timedelta

import psycopg

from apps.core.database import Connection

#: How long a transaction may be open.
_OPEN_FOR = timedelta(minutes=10)
#: How many transactions may have begun since, where it is not shown since
#: when it is open: for replication, and to users without pg_read_all_stats.
_BEHIND = 1_000_000
#: How old, in transactions, the oldest row may be; they end at 2.1 billion.
#: Autovacuum goes to work at 200 million by default.
_OLDEST = 1_000_000_000
#: How long an answer holds, in seconds.
_EVERY = 15.0

# Replication has no database. A session that begins has none yet, and may be
# for another one. A vacuum's own snapshot is in nobody's way.
_HOLDERS = """
SELECT 'process ' || pid
           || coalesce(' (' || nullif(application_name, '') || ')', '') AS who,
       extract(epoch FROM now() - xact_start)::float / 60 AS minutes
FROM pg_stat_activity
WHERE (datid IS NULL OR datname = current_database())
  AND state IS DISTINCT FROM 'starting'
  AND pid <> pg_backend_pid()
  AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
  AND CASE WHEN xact_start IS NULL
           THEN greatest(age(backend_xmin), age(backend_xid)) >= %(behind)s
           ELSE xact_start < now() - %(open_for)s END
UNION ALL
SELECT 'prepared transaction ' || gid,
       extract(epoch FROM now() - prepared)::float / 60
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < now() - %(open_for)s
UNION ALL
SELECT 'replication slot ' || slot_name, NULL
FROM pg_replication_slots WHERE age(xmin) >= %(behind)s
ORDER BY minutes DESC NULLS LAST, who LIMIT 1
"""
_AGE = """
SELECT greatest(age(datfrozenxid), mxid_age(datminmxid)) FROM pg_database
WHERE datname = current_database()
"""


class Upkeep:
    """Looks whether Postgres can clean up; an answer holds for 15 s."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Look anew when asked next."""
        self._known: tuple[float, list[str]] = 0.0, []

    def troubles(self, connection: Connection) -> list[str]:
        """Return what is in the way of cleaning up.

        Raises `database.UNAVAILABLE` when Postgres is away.
        """
        until, found = self._known
        if time.monotonic() < until:
            return found
        found = _look(connection)
        self._known = time.monotonic() + _EVERY, found
        return found


def _look(connection: Connection) -> list[str]:
    values = {"open_for": _OPEN_FOR, "behind": _BEHIND}
    try:
        holder = connection.execute(_HOLDERS, values).fetchone()
        row = connection.execute(_AGE).fetchone()
    except psycopg.ProgrammingError:  # somebody has closed these views
        return []
    assert row is not None
    found = []
    if holder is not None:
        who, minutes = holder
        since = "long" if minutes is None else f"{minutes:.0f} min"
        found.append(
            f"{who} has had a transaction for {since}: Postgres can't remove"
            " rows that were replaced since, which makes claims slow; end it"
        )
    if row[0] >= _OLDEST:
        found.append(
            f"the database's oldest row is {row[0]:,} transactions old, and at"
            " 2.1 billion Postgres takes no more writes: run VACUUM FREEZE"
        )
    return found


UPKEEP = Upkeep()

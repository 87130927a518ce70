"""The connection pool that the timer's own SQL runs on.

Django's ORM migrates and describes the table; the hot statements go
through psycopg's own pool, prepared, in autocommit, a few connections a
process whatever the number of threads.
"""

import atexit
import select
import time
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from apps.timers.once import Once
from apps.timers.outages import POSTGRES

Connection = psycopg.Connection[TupleRow]

#: An answer that takes longer, in seconds, is as good as an outage.
STALL = 3.0


class _Watched(Connection):
    """A connection that notes when Postgres did not answer for long.

    A server that is frozen, or a pooler that is paused, fails nobody; what
    all processes had under way arrives when it goes on.
    """

    def execute(self, *args: Any, **kwargs: Any) -> psycopg.Cursor[TupleRow]:
        """Run a statement, as psycopg's connections do."""
        began = time.monotonic()
        try:
            return super().execute(*args, **kwargs)
        finally:
            if time.monotonic() - began > STALL:
                POSTGRES.stalled()


#: What a lost, refused or overlong connection looks like, pool included
#: (its PoolTimeout and PoolClosed are OperationalErrors), and a server that
#: is not, or no longer, the one to write to.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
)

#: One connection for each kind of write that a worker does at the same
#: time, so that marks wait for none of the others.
_MOST = 6

#: Rows up to which an index may seem not worth its while (3,000 are enough).
_FEW = 10_000
#: So many seconds later at most a grown table is noticed.
_LIFETIME = 120.0


def connection_arguments() -> dict[str, Any]:
    """Return libpq's arguments for the database that Django uses now."""
    entry = connections["default"].settings_dict
    named = {
        "dbname": entry["NAME"],
        "user": entry["USER"],
        "password": entry["PASSWORD"],
        "host": entry["HOST"],
        "port": entry["PORT"],
    }
    given = {key: str(value) for key, value in named.items() if value}
    return {**given, **entry["OPTIONS"]}


def _check(connection: Connection) -> None:
    """Raise OperationalError for a connection that the server has ended.

    Between statements a server says nothing else, so that one is asked only
    if there is something to read: to ask each time would double the round
    trips. A server that is gone without a word fails the statement itself.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)


def _configure(connection: Connection) -> None:
    """Have no plan kept while the table is small, or of unknown size.

    A prepared statement's plan is that of the table as it was, until
    Postgres has other statistics: made for a few rows, it reads all of them,
    however many there are by then. A pooler's connections are not ours to
    set, and nothing is prepared there.
    """
    if not settings.DATABASE_POOLER:
        connection.execute(
            "SELECT set_config('plan_cache_mode', 'force_custom_plan', false)"
            " FROM pg_class WHERE oid = to_regclass('timer')"
            " AND reltuples < %s",
            [_FEW],
        )


@Once
def pool() -> ConnectionPool[Connection]:
    """Return this process's pool, opened on first use.

    psycopg's back-off grows to minutes by default; after an outage the
    first caller is to find Postgres again, so an attempt is given up
    after a second and the next caller starts a new one.
    """
    return ConnectionPool(
        connection_class=_Watched,
        kwargs={**connection_arguments(), "autocommit": True},
        min_size=1,
        max_size=_MOST,
        timeout=1,
        reconnect_timeout=1,
        configure=_configure,
        max_lifetime=_LIFETIME,
        check=_check,
        name="timers",
        open=True,
    )


@atexit.register
def close_pool() -> None:
    """Close this process's pool, if there is one; the next use opens it.

    Also at the process's end, which would otherwise wait 5 s for each of
    the pool's threads (Python 3.13).
    """
    if (opened := pool.forget()) is not None:
        opened.close()

"""The connection pools that the timer's own SQL runs on.

Django's ORM migrates and describes the table. The hot statements go through
psycopg's own pool: prepared, in autocommit, on a few connections per process,
whatever the number of threads.
"""

import atexit
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from apps.core.outages import POSTGRES
from apps.core.processes import PerProcess

Connection = psycopg.Connection[TupleRow]

#: An answer that takes longer than this, in seconds, counts as an outage.
STALL = 3.0


class _Watched(Connection):
    """A connection that notes when Postgres did not answer for long.

    A frozen server, or a paused pooler, raises no error. All statements that
    were under way arrive when it goes on.
    """

    #: SQL that sets what each statement relies on, since a pooler may run each
    #: statement on another session. None: the session has these settings.
    local: str | None = None

    def execute(self, *args: Any, **kwargs: Any) -> psycopg.Cursor[TupleRow]:
        """Run a statement, as psycopg's connections do."""
        began = time.monotonic()
        try:
            if self.local is None:
                return super().execute(*args, **kwargs)
            return self._execute_pooled(self.local, *args, **kwargs)
        finally:
            if time.monotonic() - began > STALL:
                POSTGRES.stalled()

    def _execute_pooled(
        self, local: str, *args: Any, **kwargs: Any
    ) -> psycopg.Cursor[TupleRow]:
        """Run a statement with its settings, in one round trip.

        The answer comes in binary. Text would be read with the settings that
        hold after the transaction.
        """
        try:
            with self.pipeline(), self.transaction():
                super().execute(local.encode())
                return super().execute(*args, binary=True, **kwargs)
        except psycopg.errors.FeatureNotSupported as error:
            # This is how a standby refuses a transaction that writes.
            raise psycopg.errors.ReadOnlySqlTransaction(*error.args) from error


class Busy(PoolTimeout):
    """All of a pool's connections were in use for too long."""


#: Errors of a connection that is lost, refused or takes too long, also the
#: pool's (PoolTimeout and PoolClosed are OperationalErrors), and of a server
#: that does not, or no longer, take writes.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
)

#: One connection for each kind of write that a worker does at the same
#: time, so that marks wait for none of the others.
_MOST = 6
#: How long a statement may take, in seconds, while others hold its locks:
#: as long as a worker waits for a write. A request waits less.
_STATEMENT_SECONDS = 5.0
#: The same for a list, and how many lists are read at a time. Others wait.
_LISTS = 2
_LIST_SECONDS = 2.0
_LIST_PATIENCE = 3.0

#: How long a caller waits for a connection, in seconds.
_PATIENCE = 1.0
#: Seconds after which a waiting caller makes the pool open a connection.
#: psycopg's own back-off would try only after a second, and the first caller
#: after an outage would wait for that.
_RETRY = 0.25

#: Below this many rows, Postgres may prefer to read the whole table.
#: (Measured: from 3,000 rows on it uses the indexes.)
_FEW = 10_000
#: How long it takes at most to notice that a table has grown, in seconds.
_LIFETIME = 120.0

#: Settings that statements rely on. A role, a database or a server may have
#: another default. A pooler keeps these as the client has set them.
TRACKED = {"DateStyle": "ISO", "TimeZone": "UTC"}
#: The schema is this one unless DATABASE_URL says another.
_SCHEMA = {"search_path": "public"}
_SESSION = {"default_transaction_isolation": "read committed"}
_READ_ONLY = "default_transaction_read_only"
#: A role's or a database's default is overruled, since this service has to
#: write. A server's default stays: it keeps writers from an old primary.
_IS_OVERRULED = f"""
SELECT FROM pg_settings WHERE name = '{_READ_ONLY}' AND setting = 'on'
  AND source IN ('user', 'database', 'database user')
"""


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
    return {**given, **entry["OPTIONS"], "client_encoding": "UTF8"}


def pinned(seconds: float) -> dict[str, str]:
    """Return the settings that each statement needs, with its time limit.

    A limit of 0 means none.
    """
    options = str(connection_arguments().get("options", ""))
    return {
        "IntervalStyle": "postgres",
        "statement_timeout": f"{seconds * 1000:.0f}",
        **({} if "search_path" in options else _SCHEMA),
    }


def setting(values: Mapping[str, str], *, local: bool) -> str:
    """Return SQL that sets our own values, for a transaction or a session."""
    return "SELECT " + ", ".join(
        f"set_config('{name}', '{value}', {str(local).lower()})"
        for name, value in values.items()
    )


def _pin(connection: _Watched, seconds: float) -> None:
    """Set what a connection's statements rely on."""
    if settings.DATABASE_POOLER:
        _pin_pooled(connection, seconds)
        return
    values = {**TRACKED, **_SESSION, **pinned(seconds)}
    parameter = connection.info.parameter_status(_READ_ONLY)
    if parameter != "off" and connection.execute(_IS_OVERRULED).fetchall():
        values[_READ_ONLY] = "off"
    connection.execute(setting(values, local=False))


def _pin_pooled(connection: _Watched, seconds: float) -> None:
    """Set the same behind a pooler in transaction mode.

    The pooler may run each statement on another session, whose settings are
    not ours. So each statement is a transaction with its own settings.
    """
    connection.execute(setting(TRACKED, local=False))
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if row == (False,):  # a standby refuses even to begin one that writes
        connection.read_only = False
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    connection.local = setting(pinned(seconds), local=True)


def connect() -> Connection:
    """Return a connection outside of the pools, without a time limit."""
    connection = _Watched.connect(**connection_arguments(), autocommit=True)
    try:
        _pin(connection, 0)
    except BaseException:
        connection.close()
        raise
    return connection


def _has_ended(connection: Connection) -> bool:
    """Tell whether the server, or what is in between, has ended a session.

    Between statements, a server sends nothing else. So a session is asked only
    if there is something to read: to ask each time would double the round
    trips. If the server is gone without a word, the statement itself fails.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.Error:
        return True
    return False


class Pool(ConnectionPool[_Watched]):
    """A pool that passes over the connections that the server has ended.

    psycopg's own `check` does so as well, but waits about a second before it
    takes the next one, which is as long as its callers wait.
    """

    @contextmanager
    def connection(self, timeout: float | None = None) -> Iterator[_Watched]:
        """Lend a connection, within `timeout` seconds (None: the pool's).

        Raises PoolTimeout, or Busy. A session that may not write is at a
        server that is no longer the primary. The pool's other sessions may be
        there, too. All of them are closed and opened anew, at the primary if
        DATABASE_URL names it.
        """
        connection = self._take(self.timeout if timeout is None else timeout)
        try:
            yield connection
        except psycopg.errors.ReadOnlySqlTransaction:
            connection.close()
            self.drain()
            raise
        finally:
            self.putconn(connection)

    def _take(self, patience: float) -> _Watched:
        """Return the next connection that is alive."""
        deadline = time.monotonic() + patience
        while True:
            left = deadline - time.monotonic()
            try:
                connection = self.getconn(min(left, _RETRY))
            except PoolTimeout:
                if left > _RETRY:
                    continue
                if self.get_stats()["pool_size"] >= self.max_size:
                    raise Busy("all connections are in use") from None
                raise PoolTimeout(
                    f"no connection within {patience:g} s"
                ) from None
            if not _has_ended(connection):
                return connection
            connection.close()
            self.putconn(connection)  # the pool opens another one


def _configure(connection: _Watched, *, seconds: float) -> None:
    """Pin settings, and keep no plan while the table's size is unknown.

    A prepared statement keeps its plan until Postgres has new statistics. A
    plan that was made for a few rows reads the whole table, however large it
    is by then. Nothing is prepared behind a pooler.
    """
    _pin(connection, seconds)
    if not settings.DATABASE_POOLER:
        connection.execute(
            "SELECT set_config('plan_cache_mode', 'force_custom_plan', false)"
            " FROM pg_class WHERE oid = to_regclass('timer')"
            " AND reltuples < %s",
            [_FEW],
        )


def _open(
    name: str,
    *,
    least: int,
    most: int,
    patience: float,
    seconds: float,
    prepares: bool = True,
) -> Pool:
    """Open a pool whose statements may take `seconds` seconds.

    psycopg's back-off grows to minutes by default. Here a failed attempt to
    connect is given up at once, and a waiting caller starts a new one.
    """
    return Pool(
        connection_class=_Watched,
        kwargs={
            **connection_arguments(),
            **({} if prepares else {"prepare_threshold": None}),
            "autocommit": True,
        },
        min_size=least,
        max_size=most,
        timeout=patience,
        reconnect_timeout=0,
        configure=partial(_configure, seconds=seconds),
        max_lifetime=_LIFETIME,
        name=name,
        open=True,
    )


@PerProcess
def pool() -> Pool:
    """Return this process's pool, opened on first use."""
    return _open(
        "timers",
        least=1,
        most=_MOST,
        patience=_PATIENCE,
        seconds=_STATEMENT_SECONDS,
    )


@PerProcess
def list_pool() -> Pool:
    """Return the pool for lists, which may read many rows.

    However many lists are asked for, other statements keep their connections,
    and Postgres has time for them. A list that takes too long raises
    psycopg.errors.QueryCanceled; Busy says that other lists take long.
    Each is planned for its own values: a plan for all would not do for some.
    """
    return _open(
        "lists",
        least=0,
        most=_LISTS,
        patience=_LIST_PATIENCE,
        seconds=_LIST_SECONDS,
        prepares=False,
    )


@atexit.register
def close_pool() -> None:
    """Close this process's pools, if there are any; the next use opens them.

    This also runs at the process's end, which would otherwise wait 5 s for
    each of the pool's threads (Python 3.13).
    """
    for each in (pool, list_pool):
        if (opened := each.forget()) is not None:
            opened.close()

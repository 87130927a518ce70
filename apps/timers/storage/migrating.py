"""How migrations run beside traffic, and beside one another.

An ALTER TABLE that waits for a lock makes everybody else wait behind it. So
it waits briefly, and is tried again. A concurrent index build is in nobody's
way, so it waits as long as it takes. Both say what they wait for.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.core.database import (
    TRACKED,
    connect,
    connection_arguments,
    pinned,
    setting,
)

#: How long everybody else may have to wait behind a migration, in seconds:
#: less than a request waits for Postgres.
LOCK_SECONDS = 2.0
#: The pause between two tries, for those that were held up.
PAUSE_SECONDS = 3.0
#: Ten minutes, with the pauses.
TRIES = 120
#: How often a migration says again what it waits for, in seconds.
SAY_AGAIN = 10.0

#: The application name that tells migrations' sessions from others.
_NAME = "timer-service migrate"
#: The advisory lock of this service's migrations: any number does.
_KEY = 7_263_548_190
#: Statements that can't run in a transaction.
_CONCURRENT = re.compile(r"\s*(CREATE|DROP) .*\bCONCURRENTLY\b", re.I)
_BUILD = re.compile(
    r'\s*CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?'
    r'"?(?P<name>\w+)"?',
    re.I,
)

#: How often a statement is tried if a pooler runs it on another session.
_SESSION_TRIES = 100
#: The errors that a statement raises there, because the session has the
#: defaults of its role or database.
_ELSEWHERE = (
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.DuplicateTable,
    psycopg.errors.QueryCanceled,
)

_BLOCKERS = """
SELECT DISTINCT blocker.pid, usename, application_name,
       extract(epoch FROM clock_timestamp() - xact_start)::int
FROM (
    SELECT unnest(pg_blocking_pids(pid)) AS pid FROM pg_stat_activity
    WHERE application_name = %s AND datname = current_database()
      AND wait_event_type = 'Lock'
) AS blocker LEFT JOIN pg_stat_activity USING (pid)
ORDER BY 1
"""


@contextlib.contextmanager
def careful(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Run a connection's statements in a way that suits migrations."""
    connection.ensure_connection()
    connection.connection.execute(setting(TRACKED, local=False))
    with connection.execute_wrapper(_run_statement):
        yield


def _run_statement(
    execute: Callable[..., Any],
    sql: str,
    params: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    """Run a migration's statement: Django's `execute_wrapper`.

    Each gets its settings in its own transaction, as a pooler requires.
    """
    connection: BaseDatabaseWrapper = context["connection"]
    if _CONCURRENT.match(sql):
        before = []
        if found := _BUILD.match(sql):
            # An interrupted build leaves an index that nothing uses, or one
            # that was not noted as made.
            before = [f'DROP INDEX CONCURRENTLY IF EXISTS "{found["name"]}"']

        def run() -> Any:
            for each in before:
                execute(each, None, False, context)
            return execute(sql, params, many, context)

        return _run_in_session(connection, run)
    with contextlib.ExitStack() as stack:
        if not connection.in_atomic_block:
            stack.enter_context(transaction.atomic(connection.alias))
        # The first setting comes before any query: a transaction that has run
        # a query can no longer be made one that writes.
        _set(
            connection, "SET LOCAL", transaction_read_only="off",
            **_settings(LOCK_SECONDS),
        )
        return execute(sql, params, many, context)


def _settings(lock_seconds: float) -> dict[str, str]:
    return {
        **pinned(0),
        "lock_timeout": f"{lock_seconds * 1000:.0f}",
        "application_name": _NAME,
    }


def _set(connection: BaseDatabaseWrapper, how: str, **values: str) -> None:
    connection.connection.execute(
        "; ".join(f"{how} {name} = '{text}'" for name, text in values.items())
    )


def _run_in_session(
    connection: BaseDatabaseWrapper, run: Callable[[], Any]
) -> Any:
    """Run what can't be in a transaction, with settings of the session.

    A pooler may use another session for each statement, and one with other
    settings refuses it. So it is tried again.
    """
    tries_left = _SESSION_TRIES if settings.DATABASE_POOLER else 1
    while True:
        tries_left -= 1
        with _session(connection):
            try:
                return run()
            except DatabaseError as error:
                is_elsewhere = isinstance(error.__cause__, _ELSEWHERE)
                if not (is_elsewhere and tries_left):
                    raise


@contextlib.contextmanager
def _session(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Set, for the session, what a statement outside a transaction needs."""
    values = {"default_transaction_read_only": "off", **_settings(0)}
    _set(connection, "SET", **values)
    try:
        yield
    finally:
        connection.connection.execute(
            "; ".join(f"RESET {name}" for name in values)
        )


def had_to_wait(error: OperationalError) -> bool:
    """Tell whether somebody's lock was in the way."""
    return isinstance(
        error.__cause__,
        psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected,
    )


@contextlib.contextmanager
def alone(say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other migration runs, and keep others waiting.

    The lock is a transaction's, which a pooler keeps on one session. The
    transaction is at rest, so a concurrent index build does not wait for it.
    It would wait for a transaction that waits in a statement.
    """
    said_at = float("-inf")
    with psycopg.connect(**connection_arguments()) as connection:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        while not _try_lock(connection):
            connection.rollback()
            if time.monotonic() - said_at > SAY_AGAIN:
                said_at = time.monotonic()
                say("another migrate is running; this one waits for its end")
            time.sleep(0.2)
        yield


def _try_lock(connection: psycopg.Connection[Any]) -> bool:
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    if connection.info.server_version >= 17_00_00:
        connection.execute("SET LOCAL transaction_timeout = 0")
    # Without parameters: after a statement that has some, Postgres keeps the
    # snapshot, and an index build would wait for that.
    row = connection.execute(
        f"SELECT pg_try_advisory_xact_lock({_KEY})"
    ).fetchone()
    return bool(row and row[0])


@contextlib.contextmanager
def watched(say: Callable[[str], None]) -> Iterator[None]:
    """Say what the migration waits for, from another connection."""
    over = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(over, say), name="blockers", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(over: threading.Event, say: Callable[[str], None]) -> None:
    """Ask twice a second; say nothing while Postgres is away."""
    told: dict[int, float] = {}
    while not over.wait(0.5):
        with contextlib.suppress(psycopg.Error), connect() as connection:
            while not over.wait(0.5):
                for pid, *who in connection.execute(_BLOCKERS, [_NAME]):
                    now = time.monotonic()
                    if now - told.get(pid, -SAY_AGAIN) >= SAY_AGAIN:
                        told[pid] = now
                        say(_sentence(pid, *who))


def _sentence(
    pid: int, user: str | None, application: str | None, seconds: int | None
) -> str:
    return (
        f"waiting for process {pid} of Postgres (user {user or 'not known'},"
        f" application {application or 'not named'}), whose transaction began"
        f" {seconds or 0} s ago"
    )

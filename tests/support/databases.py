"""The test's database, emptied; and another one on the same server."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from django.db import OperationalError, connection, transaction

from apps.core.database import close_pool, connection_arguments

#: In bytes; about 500 rows.
_SMALL = 128 * 1024
#: How often the tables are emptied anew after a deadlock.
_TRIES = 3


@contextmanager
def scratch_database(options: str = "") -> Iterator[str]:
    """Have Django and the timers' pools use a new, empty database.

    `options` are those of CREATE DATABASE. Yields its name.
    """
    arguments = connection_arguments()
    name = f"{arguments['dbname']}_scratch"
    drop = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
    with psycopg.connect(**arguments, autocommit=True) as admin:
        admin.execute(drop)
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 {options}')
        _use(name)
        try:
            yield name
        finally:
            _use(str(arguments["dbname"]))
            admin.execute(drop)


def _use(name: str) -> None:
    close_pool()
    connection.close()
    connection.settings_dict["NAME"] = name


def have_default_account() -> None:
    """Make the account `default`, if a test has removed it.

    pytest-django removes all rows after a test that is marked to need a
    database.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO account (id, name, created_at)"
            " VALUES (1, 'default', now()) ON CONFLICT DO NOTHING"
        )


def empty_tables() -> None:
    """Remove all rows of Django's database but the account `default`.

    TRUNCATE makes new files, which costs more than most tests. So it is for
    tables that have grown; rows of small ones are deleted.
    """
    # A test may have ended the session that Django has.
    if connection.connection is not None and not connection.is_usable():
        connection.close()
    names = _names()
    # Processes that run on may lock the tables in another order.
    for _ in range(_TRIES - 1):
        with suppress(OperationalError):
            return _empty(names)
    return _empty(names)


def tables_with_rows() -> set[str]:
    """Return the tables that a module of tests should have emptied.

    `process` is left out: a process that was killed can't remove its row.
    """
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(
            f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})"
            for name in _names() if name != "process"
        ))
        return {name for name, in cursor.fetchall()}


def waiting_for_locks() -> int:
    """Return how many sessions of Django's database wait for a lock."""
    with connection.cursor() as cursor:
        # Other databases of the server have tests of their own. pg_locks does
        # not say which one a lock on a row belongs to.
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return int(cursor.fetchone()[0])


def _names() -> list[str]:
    """Return the tables of our own.

    Django's have what migrations made, and a few users.
    """
    return sorted(
        name for name in connection.introspection.django_table_names()
        if name != "account" and not name.startswith(("auth_", "django_"))
    )


def _empty(names: list[str]) -> None:
    tables = ", ".join(map(connection.ops.quote_name, names))
    with transaction.atomic(), connection.cursor() as cursor:
        # Killed processes may still be about to commit.
        cursor.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            "SELECT max(pg_relation_size(oid)) FROM pg_class"
            " WHERE relname = ANY(%s)", [names]
        )
        if cursor.fetchone()[0] > _SMALL:
            cursor.execute(f"TRUNCATE {tables}")
        else:
            cursor.execute(";".join(f"DELETE FROM {name}" for name in names))
        cursor.execute(
            "DELETE FROM account WHERE id <> 1; DELETE FROM django_session;"
            " DELETE FROM auth_user"
        )

"""The test's database, emptied; and another one on the same server."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection, transaction

from apps.core.database import close_pool, connection_arguments

#: In bytes; about 500 rows.
_SMALL = 128 * 1024


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


def empty_tables() -> None:
    """Remove all rows of Django's database but the account `default`.

    TRUNCATE makes new files, which costs more than most tests. So it is for
    tables that have grown; rows of small ones are deleted.
    """
    # A test may have ended the session that Django has.
    if connection.connection is not None and not connection.is_usable():
        connection.close()
    names = sorted(connection.introspection.django_table_names())
    names.remove("account")
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
            for name in names:
                cursor.execute(f"DELETE FROM {name}")
        cursor.execute("DELETE FROM account WHERE id <> 1")

"""Another database on the tests' server."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection

from apps.core.database import close_pool, connection_arguments


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

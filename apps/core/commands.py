"""What management commands say when Postgres can't serve them."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.core.management.base import CommandError

from apps.core.database import UNAVAILABLE
from apps.core.reaching import PostgresAway


@contextmanager
def needing_postgres() -> Iterator[None]:
    """Raise CommandError when Postgres is away, or not migrated."""
    try:
        yield
    except (*UNAVAILABLE, PostgresAway) as error:
        raise CommandError(f"Postgres can't be reached: {error}") from None
    except psycopg.errors.UndefinedTable as error:
        table = error.diag.message_primary
        raise CommandError(f"{table}: run `manage.py migrate`.") from None

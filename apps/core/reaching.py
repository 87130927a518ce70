"""Asking Postgres for somebody who waits, and saying that it is away."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from apps.core.database import UNAVAILABLE, Busy, Connection, list_pool
from apps.core.outages import POSTGRES

#: Errors of one statement that psycopg counts as operational: a time limit, a
#: lock that did not come, a conflict with another transaction.
_ONE_STATEMENT = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


class PostgresAway(Exception):
    """Postgres can't be reached, or does not answer in time; says why.

    What was to be written may have been written all the same.
    """


class ListTooSlow(Exception):
    """The list asks for too much, or too many lists are read at once."""


def is_outage(error: Exception) -> bool:
    """Tell whether an error says that Postgres is away."""
    return isinstance(error, UNAVAILABLE) and not isinstance(
        error, _ONE_STATEMENT
    )


@contextmanager
def reaching_postgres() -> Iterator[None]:
    """Raise PostgresAway when Postgres is away or does not answer."""
    try:
        yield
    except (*UNAVAILABLE, TimeoutError) as error:
        text = str(error).strip()
        POSTGRES.failed(error=text)
        raise PostgresAway(text) from error
    POSTGRES.worked()


@contextmanager
def reading_list() -> Iterator[None]:
    """Raise ListTooSlow when a list takes too long, else PostgresAway."""
    with reaching_postgres():
        try:
            yield
        except (psycopg.errors.QueryCanceled, Busy) as error:
            raise ListTooSlow from error


@contextmanager
def list_connection() -> Iterator[Connection]:
    """Lend a connection for lists. Raises ListTooSlow or PostgresAway."""
    with reading_list(), list_pool().connection() as connection:
        yield connection

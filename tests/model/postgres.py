"""Real Postgres, on a clock that stands still until it is moved.

The store's SQL runs unchanged: a schema before `pg_catalog` in the search
path has the clock's functions by the same names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, dict_row

from apps.core.database import Connection, connection_arguments

Row = dict[str, Any]
EPOCH = datetime(2040, 1, 1, tzinfo=UTC)

_SCHEMA = """
DROP SCHEMA IF EXISTS still CASCADE;
CREATE SCHEMA still;
CREATE FUNCTION still.now() RETURNS timestamptz STABLE LANGUAGE sql
    AS $$ SELECT current_setting('still.now')::timestamptz $$;
CREATE FUNCTION still.clock_timestamp() RETURNS timestamptz VOLATILE
    LANGUAGE sql
    AS $$ SELECT current_setting('still.now')::timestamptz $$;
CREATE FUNCTION still.pg_postmaster_start_time() RETURNS timestamptz
    STABLE LANGUAGE sql
    AS $$ SELECT current_setting('still.started')::timestamptz $$;
"""


def moment(seconds: float) -> datetime:
    """Return a moment of the still clock."""
    return EPOCH + timedelta(seconds=seconds)


def seconds(of: datetime) -> float:
    """Return how far a moment is from the still clock's beginning."""
    return (of - EPOCH).total_seconds()


def maybe_seconds(of: datetime | None) -> float | None:
    """Return the same of a moment that may be none."""
    return None if of is None else seconds(of)


class Postgres:
    """One connection, in one transaction for each game.

    It takes the place of the store's pool.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        #: Whether something may have been written since the last look.
        self.touched = True

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend the connection, as psycopg's pool does."""
        self.touched = True
        yield self._connection

    def begin(self) -> None:
        """Start with empty tables, at the clock's beginning."""
        self._connection.execute("BEGIN")
        self._empty()
        self.set_clock("now", 0)
        self.set_clock("started", -3600)
        self.touched = True

    def end(self) -> None:
        """Forget everything.

        psycopg would forget its prepared statements at a ROLLBACK.
        """
        status = self._connection.info.transaction_status
        if status == TransactionStatus.INERROR:
            self._connection.execute("ROLLBACK")
            return
        self._empty()
        self._connection.execute("COMMIT")

    def _empty(self) -> None:
        self._connection.execute("DELETE FROM timer")
        self._connection.execute("DELETE FROM attempt")
        self._connection.execute("DELETE FROM event")
        self._connection.execute("DELETE FROM hold")

    def set_clock(self, name: str, time: float) -> None:
        """Move the clock (`now`), or when Postgres `started`."""
        self._connection.execute(
            "SELECT set_config(%s, %s, false)",
            [f"still.{name}", moment(time).isoformat()],
        )

    def rows(self) -> dict[UUID, Row]:
        """Return all timers."""
        return {row["id"]: row for row in self._all("timer")}

    def attempts(self) -> dict[UUID, list[Row]]:
        """Return all timers' attempts."""
        found: dict[UUID, list[Row]] = {}
        for row in self._all("attempt"):
            found.setdefault(row["timer_id"], []).append(row)
        return found

    def _all(self, table: LiteralString) -> list[Row]:
        cursor = self._connection.cursor(row_factory=dict_row)
        return cursor.execute(f"SELECT * FROM {table}").fetchall()


@contextmanager
def still_postgres() -> Iterator[Postgres]:
    """Connect to the test's database, with a clock that stands still."""
    connection: psycopg.Connection[TupleRow] = psycopg.connect(
        **connection_arguments(), autocommit=True
    )
    with connection:
        connection.execute(_SCHEMA)
        connection.execute("SET search_path = still, pg_catalog, public")
        connection.execute("SET timezone = UTC")
        connection.execute("SET jit = off")
        # A game's statements are run thousands of times.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        yield Postgres(connection)
    # Other tests may have ended that session meanwhile.
    with psycopg.connect(**connection_arguments(), autocommit=True) as other:
        other.execute("DROP SCHEMA still CASCADE")

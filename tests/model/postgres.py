"""Real Postgres, on a clock that stands still until it is moved.

The store's SQL runs unchanged: a schema before `pg_catalog` in the search
path has the clock's functions by the same names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from apps.core.database import Connection, connection_arguments
from tests.model.task import BLOCKED, Task

Row = dict[str, Any]
Cursor = psycopg.Cursor[tuple[Any, ...]]
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
# A game's statements are run thousands of times.
_SETTINGS = """
SET search_path = still, pg_catalog, public;
SET timezone = UTC;
SET jit = off;
SET plan_cache_mode = force_generic_plan;
SET synchronous_commit = off;
"""
_EMPTY = "".join(
    f"DELETE FROM {table};"
    for table in (
        "timer", "attempt", "event", "timer_key", "timer_label",
        "request_key", "hold", "account_limit", "tally", "log",
    )
)


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
    """Workers and dispatchers share one connection, callers have others.

    It takes the place of the store's pool.
    """

    def __init__(self, main: Connection, callers: Sequence[Connection],
                 watch: Connection) -> None:
        self._main = main
        #: The connections of callers.
        self.callers = callers
        self._watch = watch
        self._pids = [each.info.backend_pid for each in (main, *callers)]
        #: Lets callers go on that hold locks; None if there are no callers.
        self.let_go_on: Callable[[], None] | None = None
        #: Whether something may have been written since the last look.
        self.touched = True
        self._rows: dict[UUID, Row] | None = None
        self._clock = {"now": "", "started": ""}
        #: What the connections take for the time.
        self._told: dict[Connection, list[str]] = {}

    @contextmanager
    def connection(self) -> Iterator["Postgres"]:
        """Lend the shared connection, as psycopg's pool does."""
        yield self

    def execute(
        self, query: LiteralString, values: Mapping[str, Any] | None = None
    ) -> Cursor:
        """Run a statement; if it waits for callers, they go on."""
        self.tell_time(self._main)
        if self.let_go_on is None:
            self.written()
            return self._main.execute(query, values)
        answers: list[Cursor] = []
        task = Task(
            lambda: answers.append(self._main.execute(query, values)),
            lambda: self.is_blocked(self._main),
        )
        task.start()
        while task.request is BLOCKED:
            if self.let_go_on is not None:
                self.let_go_on()
            task.settle()
        self.written()
        return answers[0]

    def written(self) -> None:
        """Note that something may have been written."""
        self.touched, self._rows = True, None

    def is_blocked(self, connection: Connection) -> bool:
        """Tell whether a connection waits for a lock of another one here.

        It may wait for autovacuum, too, which ends by itself.
        """
        row = self._watch.execute(
            "SELECT pg_blocking_pids(%s) && %s::int[]",
            [connection.info.backend_pid, self._pids],
        ).fetchone()
        return row is not None and bool(row[0])

    def begin(self) -> None:
        """Start at the clock's beginning."""
        self.written()
        self.set_clock("now", 0)
        self.set_clock("started", -3600)

    def end(self) -> None:
        """Forget everything: other tests use the tables in between."""
        self._main.execute(_EMPTY)

    def set_clock(self, name: str, time: float) -> None:
        """Move the clock (`now`), or when Postgres `started`."""
        self._clock[name] = moment(time).isoformat()

    def tell_time(self, connection: Connection) -> None:
        """Tell a connection what time it is, unless it knows."""
        times = list(self._clock.values())
        if self._told.get(connection) != times:
            connection.execute(
                "SELECT set_config('still.now', %s, false),"
                " set_config('still.started', %s, false)",
                times,
            )
            self._told[connection] = times

    def forget_time(self, connection: Connection) -> None:
        """Note that a connection has rolled back, and its time with that."""
        self._told.pop(connection, None)

    def rows(self) -> dict[UUID, Row]:
        """Return all timers."""
        if self._rows is None:
            self._rows = {row["id"]: row for row in self._all("timer")}
        return self._rows

    def attempts(self) -> dict[UUID, list[Row]]:
        """Return all timers' attempts."""
        found: dict[UUID, list[Row]] = {}
        for row in self._all("attempt"):
            found.setdefault(row["timer_id"], []).append(row)
        return found

    def events(self) -> list[Row]:
        """Return all events, in their order."""
        return self._read("SELECT * FROM event ORDER BY id")

    def limit(self) -> Row:
        """Return the limits of the account that has some."""
        (row,) = self._all("account_limit")
        return row

    def _all(self, table: LiteralString) -> list[Row]:
        return self._read(f"SELECT * FROM {table}")

    def _read(self, query: LiteralString) -> list[Row]:
        cursor = self._watch.cursor(row_factory=dict_row)
        return cursor.execute(query).fetchall()


@contextmanager
def still_postgres() -> Iterator[Postgres]:
    """Connect to the test's database, with a clock that stands still."""
    with ExitStack() as stack:
        first, *others = [stack.enter_context(_connect()) for _ in range(4)]
        first.execute(_SCHEMA)
        for connection in (first, *others):
            connection.execute(_SETTINGS)
        first.execute(_EMPTY)
        *callers, watch = others
        postgres = Postgres(first, callers, watch)
        yield postgres
    # Other tests may have ended those sessions meanwhile.
    with _connect() as other:
        other.execute(f"DROP SCHEMA still CASCADE; {_EMPTY}")


def _connect() -> Connection:
    return psycopg.connect(
        **connection_arguments(), autocommit=True, prepare_threshold=1
    )

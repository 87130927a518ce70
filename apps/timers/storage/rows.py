"""What statements return: rows by the names of their columns, and a clock."""

import time
from typing import Any, cast

from psycopg import Cursor
from psycopg.rows import dict_row

from apps.core.database import Connection
from apps.timers.storage.records import ClockReading

#: One row, its values by the names of its columns.
Row = dict[str, Any]


def named(cursor: Cursor[tuple[Any, ...]]) -> list[Row]:
    """Return all rows that a statement has returned."""
    rows = cast(Cursor[Row], cursor)
    rows.row_factory = dict_row
    return rows.fetchall()


def read_clock(connection: Connection) -> ClockReading:
    """Read Postgres's clock.

    A time that a writing statement returns is a commit old when the answer
    arrives, and a commit may take longer than a rung of the ladder.
    """
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return ClockReading(row[0], time.monotonic())

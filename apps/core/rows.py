"""What statements return: rows by the names of their columns."""

from typing import Any, cast

from psycopg import Cursor
from psycopg.rows import dict_row

#: A row, by its columns' names.
Row = dict[str, Any]


def named(cursor: Cursor[tuple[Any, ...]]) -> list[Row]:
    """Return all rows that a statement has returned."""
    rows = cast(Cursor[Row], cursor)
    rows.row_factory = dict_row
    return rows.fetchall()

"""Postgres's clock, as a connection reads it."""

import time

from apps.core.database import Connection
from apps.timers.storage.records import ClockReading


def read_clock(connection: Connection) -> ClockReading:
    """Read Postgres's clock.

    A time that a writing statement returns is a commit old when the answer
    arrives, and a commit may take longer than a rung of the ladder.
    """
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return ClockReading(row[0], time.monotonic())

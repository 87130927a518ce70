"""The operator's hold: while it lasts, no timer is claimed on any node.

It is a row, which each claim looks for itself (`claiming.CLAIM`).
"""

import time
from dataclasses import dataclass
from datetime import datetime

from apps.accounts.log import LoggedChange
from apps.core.database import Connection, connect, pool
from apps.core.rows import named
from apps.timers.storage.queueing import CHANNEL

#: How long a hold waits for claims that began before it, in seconds. Those of
#: workers take 5 s at most.
_PATIENCE = 10.0

CURRENT = "SELECT since, reason FROM hold"

HOLD = """
INSERT INTO hold (id, since, reason) VALUES (1, now(), %(reason)s)
ON CONFLICT (id) DO UPDATE SET reason = coalesce(excluded.reason, hold.reason)
RETURNING since, reason
"""

RELEASE = f"""
WITH released AS (
    DELETE FROM hold RETURNING since, reason
)
SELECT since, reason, pg_notify('{CHANNEL}', '') FROM released
"""

# A claim that began before the hold does not see it, and has this lock until
# its end. One that locks the table later sees the hold.
WRITERS = """
SELECT pid, virtualtransaction FROM pg_locks
WHERE relation = 'timer'::regclass AND mode = 'RowExclusiveLock'
  AND database = (SELECT oid FROM pg_database
                  WHERE datname = current_database())
  AND pid <> pg_backend_pid()
"""

UNDER_WAY = "SELECT count(*) FROM timer WHERE leased_until > now()"


@dataclass(frozen=True, slots=True)
class Hold:
    """Since when all calls are held, and why, if the operator said that."""

    since: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A hold that holds.

    under_way  how many claims are older than it; their calls go on
    writers    ids of sessions that may still claim, since they have written
               timers without a pause since before it; none, usually
    """

    hold: Hold
    under_way: int
    writers: list[int]


def current() -> Hold | None:
    """Return the hold, if there is one."""
    with pool().connection() as connection:
        return read(connection)


def read(connection: Connection) -> Hold | None:
    """Return the hold, as a connection's transaction sees it."""
    rows = named(connection.execute(CURRENT))
    return Hold(**rows[0]) if rows else None


def hold(reason: str | None, logged: LoggedChange | None = None) -> Begun:
    """Hold all calls; return when no older claim is under way any more.

    If there is a hold, it stays; a new reason takes the place of the old one.
    """
    with connect() as connection:
        with connection.transaction():
            (row,) = named(connection.execute(HOLD, {"reason": reason}))
            if logged:
                logged.log(connection)
        writers = _wait_for_writers(connection)
        count = connection.execute(UNDER_WAY).fetchone()
    assert count is not None
    return Begun(Hold(**row), count[0], writers)


def _wait_for_writers(connection: Connection) -> list[int]:
    """Wait until those have ended who write now; return who have not."""
    deadline = time.monotonic() + _PATIENCE
    left = set(connection.execute(WRITERS).fetchall())
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left &= set(connection.execute(WRITERS).fetchall())
    return sorted(pid for pid, _ in left)


def release(logged: LoggedChange | None = None) -> Hold | None:
    """End the hold and wake dispatchers and feeders; return it, if any."""
    with pool().connection() as connection, connection.transaction():
        rows = named(connection.execute(RELEASE))
        if rows and logged:
            logged.log(connection)
    return Hold(rows[0]["since"], rows[0]["reason"]) if rows else None

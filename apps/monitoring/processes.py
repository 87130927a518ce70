"""How the processes without a port are, as any web process can tell.

Each worker and dispatcher keeps a row of its own up to date; `/readyz`
reads them all.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import psycopg
from django.conf import settings
from psycopg.types.json import Jsonb

from apps.core.database import UNAVAILABLE, Connection, pool
from apps.core.outages import Outage, describe
from apps.monitoring.heartbeat import STALE_AFTER, Sign

logger = logging.getLogger(__name__)

#: How often a process writes its row when nothing changes, in seconds.
INTERVAL = 5.0

_UNWRITTEN = Outage(
    "this process can't write how it is, so that /readyz can't tell; its"
    " work goes on",
    "this process writes how it is again",
)

_WRITE = """
INSERT INTO process (id, role, name, version, seen_at, good_at, trouble,
                     backlog, threads, busy, circuits)
VALUES (%(id)s, %(role)s, %(name)s, %(version)s, now(), now() - %(age)s,
        %(trouble)s, %(backlog)s, %(threads)s, %(busy)s, %(circuits)s)
ON CONFLICT (id) DO UPDATE
SET seen_at = excluded.seen_at, good_at = excluded.good_at,
    trouble = excluded.trouble, backlog = excluded.backlog,
    threads = excluded.threads, busy = excluded.busy,
    circuits = excluded.circuits
"""
# A killed process leaves its row, and `judge` overlooks it once another of its
# role runs. Rows that nobody replaced go after a day.
_SWEEP = "DELETE FROM process WHERE seen_at < now() - interval '1 day'"
_WITHDRAW = "DELETE FROM process WHERE id = %(id)s"
_READ = """
SELECT role, name, extract(epoch FROM now() - seen_at)::float,
       extract(epoch FROM now() - good_at)::float, trouble, version, backlog,
       threads, busy, circuits
FROM process ORDER BY role, name
"""
# One half for each of the two partial indexes.
_OVERDUE = " UNION ALL ".join(
    f"""
    (SELECT extract(epoch FROM now() - next_at)::float AS overdue FROM timer
     WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS {queued}
       AND next_at < now() - %(patience)s
     ORDER BY next_at LIMIT 1)
    """
    for queued in ("NULL", "NOT NULL")
)


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has to do; the rest is a worker's alone.

    backlog   messages that wait for a worker's threads, or in RabbitMQ; None
              if RabbitMQ is away
    threads   how many there are
    busy      how many are calling
    circuits  hosts that answer nothing: host, port, for how many seconds
    """

    backlog: int | None
    threads: int | None = None
    busy: int | None = None
    circuits: Sequence[tuple[str, int, float]] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A process, seen `seen` s ago; it last worked well `good` s ago.

    The last four are those of `Work`. A process of an older version does not
    say all of this.
    """

    role: str
    name: str
    seen: float
    good: float
    trouble: str | None = None
    version: str | None = None
    backlog: int | None = None
    threads: int | None = None
    busy: int | None = None
    circuits: Sequence[tuple[str, int, float]] | None = None


class Notice:
    """The row of this process. Its methods never raise."""

    def __init__(
        self, role: str, work: Callable[[], Work] | None = None
    ) -> None:
        self._values = {
            "id": uuid4(),
            "role": role,
            "name": f"{socket.gethostname()}:{os.getpid()}",
            "version": settings.VERSION,
        }
        self._work = work
        self._written_at: float | None = None
        self._trouble: str | None = None

    def write(self, sign: Sign) -> None:
        """Write how the process is, if that changed or INTERVAL is over."""
        now = time.monotonic()
        if (
            self._written_at is not None
            and sign.trouble == self._trouble
            and now < self._written_at + INTERVAL
        ):
            return
        sweep = self._written_at is None
        self._written_at, self._trouble = now, sign.trouble
        age = timedelta(seconds=sign.age)
        trouble = sign.trouble and sign.trouble.replace("\0", "")
        work = self._work and self._work()
        circuits = work and work.circuits
        self._execute(
            _WRITE,
            age=age,
            trouble=trouble,
            backlog=work and work.backlog,
            threads=work and work.threads,
            busy=work and work.busy,
            circuits=None if circuits is None else Jsonb(circuits),
        )
        if sweep:
            self._execute(_SWEEP)

    def withdraw(self) -> None:
        """Remove the row: the process stops, and is not missed."""
        self._execute(_WITHDRAW)

    def _execute(self, query: str, **values: object) -> None:
        try:
            with pool().connection() as connection:
                connection.execute(query, {**self._values, **values})
        except UNAVAILABLE:
            pass  # other code logs that Postgres is away
        except Exception as error:  # nothing depends on it
            _UNWRITTEN.failed(error=describe(error))
        else:
            _UNWRITTEN.worked()


class Notices:
    """A thread that keeps the row of this process up to date."""

    def __init__(
        self,
        role: str,
        look: Callable[[], Sign],
        work: Callable[[], Work] | None = None,
    ) -> None:
        """Take how the process is, and what it has to do."""
        self._notice = Notice(role, work)
        self._look = look
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="notices", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread and remove the row."""
        self._stopping.set()
        self._thread.join(2)
        self._notice.withdraw()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._notice.write(self._look())
            self._stopping.wait(1.0)


def seen(connection: Connection) -> list[Row]:
    """Return the rows of all workers and dispatchers, by role and name."""
    return [Row(*each) for each in connection.execute(_READ).fetchall()]


def troubles(
    connection: Connection, roles: Collection[str], *, known: str | None
) -> list[str]:
    """Return what is wrong with the processes of these roles.

    `known` is a trouble to leave out: the caller knows it. Raises
    `database.UNAVAILABLE` when Postgres is away.
    """
    try:
        rows = seen(connection)
    except psycopg.errors.UndefinedTable:
        return ["nobody can say how they are: run `manage.py migrate`"]
    except psycopg.ProgrammingError as error:
        return [f"nobody can say how they are: {describe(error)}"]
    news = [row for row in rows if row.trouble is None or row.trouble != known]
    wrong = judge(news, roles)
    absent = {*roles} - {row.role for row in rows}
    if absent and (overdue := _overdue(connection)):
        wrong += [
            f"no {role} runs, and timers are overdue by {overdue:.0f} s"
            for role in sorted(absent)
        ]
    return wrong


def judge(rows: Sequence[Row], roles: Collection[str]) -> list[str]:
    """Return what is wrong with processes, given their rows.

    A process that is no longer heard of was killed, hangs or is cut off. It
    is reported only if no other one of its role is heard of.
    """
    wrong = []
    for role in roles:
        mine = [row for row in rows if row.role == role]
        heard = [row for row in mine if row.seen <= STALE_AFTER]
        wrong += [text for row in heard if (text := _illness(row))]
        if mine and not heard:
            silent = min(row.seen for row in mine)
            wrong.append(f"no {role} was heard of for {silent:.0f} s")
    return wrong


def _illness(row: Row) -> str | None:
    if row.trouble is None and row.good <= STALE_AFTER:
        return None
    text = f"{row.role} {row.name}"
    if row.good > STALE_AFTER:
        text += f" last worked well {row.good:.0f} s ago"
    return f"{text}: {row.trouble}" if row.trouble else text


def _overdue(connection: Connection) -> float | None:
    """Return how long the most overdue timer waits, in seconds, or None."""
    found = connection.execute(
        _OVERDUE, {"patience": timedelta(seconds=STALE_AFTER)}
    ).fetchall()
    return max((seconds for (seconds,) in found), default=None)

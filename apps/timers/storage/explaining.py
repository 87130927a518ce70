"""Reading all that rows tell of one timer, to explain how it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from apps.core.database import pool
from apps.monitoring.heartbeat import STALE_AFTER
from apps.timers.storage import holding, reading
from apps.timers.storage.holding import Hold
from apps.timers.storage.looking import GET
from apps.timers.storage.records import Attempt, StoredTimer

#: A timer may have been moved 100,000 times. So many of the first events and
#: attempts are read, and as many of the last.
MOST = 50

# The statements of one explanation see the same moment.
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

DETAILS = """
SELECT now(), queued_at, leased_until, replayed_at, retry_until, answered,
       claims, retries, connect_failures
FROM timer WHERE id = %(id)s
"""

# With `timer_id = …` Postgres may take the primary key for the order, and read
# all events of other timers.
EVENTS = """
(SELECT id, at, what, old_at, new_at FROM event
 WHERE timer_id BETWEEN %(id)s AND %(id)s
 ORDER BY timer_id, id LIMIT %(most)s)
UNION
(SELECT id, at, what, old_at, new_at FROM event
 WHERE timer_id BETWEEN %(id)s AND %(id)s
 ORDER BY timer_id DESC, id DESC LIMIT %(most)s)
ORDER BY id
"""

ATTEMPTS = """
(SELECT number, due_at, sent_at, status_code, error, duration, NULL AS answer
 FROM attempt WHERE timer_id = %(id)s ORDER BY number LIMIT %(most)s)
UNION
(SELECT number, due_at, sent_at, status_code, error, duration, NULL
 FROM attempt WHERE timer_id = %(id)s ORDER BY number DESC LIMIT %(most)s)
ORDER BY number
"""

# One with trouble is worth a word even if others are well.
PROCESSES = """
SELECT role, max(seen_at) AS seen_at,
       min(trouble) FILTER (WHERE seen_at > now() - %(stale)s) AS trouble
FROM process GROUP BY role
"""


@dataclass(frozen=True, slots=True)
class Details:
    """What a timer's row holds besides what the API shows of it.

    now  Postgres's clock; for the others see `models.Timer`
    """

    now: datetime
    queued_at: datetime | None = None
    leased_until: datetime | None = None
    replayed_at: datetime | None = None
    retry_until: datetime | None = None
    answered: int | None = None
    claims: int = 0
    retries: int = 0
    connect_failures: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done with a timer; see `models.Event`."""

    id: int
    at: datetime
    what: str
    old_at: datetime | None
    new_at: datetime | None

    @property
    def move(self) -> tuple[datetime, datetime] | None:
        """From when to when the timer was moved, if it was."""
        if self.old_at is None or self.new_at is None:
            return None
        return self.old_at, self.new_at


@dataclass(frozen=True, slots=True)
class Role:
    """The processes of a role: when one was seen last, and a trouble."""

    role: str
    seen_at: datetime
    trouble: str | None


@dataclass(frozen=True, slots=True)
class History:
    """What rows tell of a timer, at one moment.

    events, attempts  in order; beyond twice MOST of them, the first and the
                      last MOST
    roles             by "worker" and "dispatcher"; those that have rows
    hold              the operator's hold, if there is one
    """

    timer: StoredTimer
    details: Details
    events: Sequence[Event] = ()
    attempts: Sequence[Attempt] = ()
    roles: Mapping[str, Role] | None = None
    hold: Hold | None = None


def history(timer_id: UUID) -> History | None:
    """Return what rows tell of a timer, None if there is no such timer.

    What can't be read is left out; the timer's `error` says so.
    """
    values = {"id": timer_id, "most": MOST}
    with pool().connection() as connection, connection.transaction():
        connection.execute(_SNAPSHOT)
        timers = reading.stored_timers(connection, GET, values)
        if not timers:
            return None
        (details,) = reading.records(Details, connection, DETAILS, values)
        roles = reading.records(
            Role, connection, PROCESSES,
            {"stale": timedelta(seconds=STALE_AFTER)},
        )
        return History(
            timers[0],
            details,
            reading.records(Event, connection, EVENTS, values),
            reading.records(Attempt, connection, ATTEMPTS, values),
            {each.role: each for each in roles},
            holding.read(connection),
        )

"""What goes into the store and what comes out of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from apps.timers.models import Outcome


@dataclass(frozen=True, slots=True)
class NewTimer:
    """A timer to be stored; `delay` counts from Postgres's clock.

    `queued` says that it is near, and will be published right after.
    """

    id: UUID
    url: str
    delay: timedelta
    queued: bool


@dataclass(frozen=True, slots=True)
class Near:
    """A timer to be published.

    `due` is a reading of `time.monotonic()` in this process, at most a
    round trip before the timer's real time and never after it.
    """

    id: UUID
    due: float
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """One worker's wish to claim a timer; the token is its own."""

    id: UUID
    token: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that was granted.

    At `read_at` on `time.monotonic()` Postgres's clock said `database_now`
    or later.
    """

    id: UUID
    token: UUID
    url: str
    created_at: datetime
    due_at: datetime
    next_at: datetime
    database_now: datetime
    read_at: float

    @property
    def start(self) -> float:
        """When the call may start, as `time.monotonic()`."""
        wait = (self.next_at - self.database_now).total_seconds()
        return self.read_at + max(0.0, wait)

    def database_time(self, monotonic: float) -> datetime:
        """Return Postgres's time at a reading of `time.monotonic()`."""
        return self.database_now + timedelta(seconds=monotonic - self.read_at)


@dataclass(frozen=True, slots=True)
class Early:
    """A claim refused since the timer is due only after `wait` seconds."""

    wait: float


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a claimed timer's call."""

    id: UUID
    token: UUID
    outcome: Outcome
    sent_at: datetime | None
    status_code: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Mark:
    """The news that a claimed timer's request has left."""

    id: UUID
    token: UUID
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class StoredTimer:
    """A timer as the API shows it; `time_left` in seconds, 0 if expired."""

    id: UUID
    url: str
    time_left: int
    created_at: datetime
    due_at: datetime
    fired_at: datetime | None
    sent_at: datetime | None
    outcome: str | None
    status_code: int | None
    error: str | None

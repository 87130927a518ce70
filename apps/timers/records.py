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
    at_least_once: bool = False


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Postgres's clock beside this process's `time.monotonic()`.

    `monotonic` was read when the answer `database` had arrived, so what
    is derived from the two is late by half a round trip, and never early.
    """

    database: datetime
    monotonic: float

    def to_monotonic(self, moment: datetime) -> float:
        """Return the monotonic time of a moment of Postgres's clock."""
        return self.monotonic + (moment - self.database).total_seconds()

    def to_database(self, monotonic: float) -> datetime:
        """Return the moment on Postgres's clock of a monotonic time."""
        return self.database + timedelta(seconds=monotonic - self.monotonic)


@dataclass(frozen=True, slots=True)
class Near:
    """A timer to be published; `due` is on `time.monotonic()`."""

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
    """A claim that was granted; `clock` was read after its commit."""

    clock: ClockReading
    id: UUID
    token: UUID
    url: str
    created_at: datetime
    due_at: datetime
    next_at: datetime
    connect_failures: int
    retry_until: datetime | None
    claims: int

    @property
    def attempt(self) -> int:
        """Count the tries, from 1: also those that sent nothing."""
        return self.connect_failures + self.claims


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
class Postponement:
    """A claimed timer that is to be tried again, since no call was made."""

    id: UUID
    token: UUID
    delay: timedelta
    retry_until: datetime
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
    at_least_once: bool
    connect_failures: int

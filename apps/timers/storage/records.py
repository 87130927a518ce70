"""What goes into the store and what comes out of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from apps.timers.models import Outcome
from apps.webhooks.request import WebhookRequest
from apps.webhooks.retry import RetryPolicy


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
    request: WebhookRequest = field(default_factory=WebhookRequest)
    retry: RetryPolicy | None = None
    max_lateness: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Postgres's clock beside this process's `time.monotonic()`.

    `monotonic` was read when the answer `database` had arrived. So a time
    derived from the two is late by half a round trip, and never early.
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
class DueMessage:
    """A timer to be published; `at` is its time on `time.monotonic()`."""

    id: UUID
    at: float
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One worker asks for a timer; the token is its own."""

    id: UUID
    token: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that was granted; `clock` was read after its commit.

    latest_at  when the call may begin at the latest; None: no limit
    called     whether a request left before, in another claim
    The counters are the row's, see `models.Timer`.
    """

    clock: ClockReading
    request: WebhookRequest
    retry: RetryPolicy | None
    id: UUID
    token: UUID
    url: str
    created_at: datetime
    due_at: datetime
    next_at: datetime
    latest_at: datetime | None
    connect_failures: int
    retry_until: datetime | None
    attempts: int
    claims: int
    retries: int
    called: bool

    @property
    def attempt(self) -> int:
        """The number of this try, from 1; unsent tries count as well."""
        return self.attempts + self.claims

    @property
    def waited(self) -> bool:
        """Whether it was put off, or tried, before."""
        return self.next_at > self.due_at

    def now(self) -> datetime:
        """Return the time on Postgres's clock."""
        return self.clock.to_database(time.monotonic())

    def is_too_late(self) -> bool:
        """Tell whether the latest time for its call has passed."""
        return self.latest_at is not None and self.now() > self.latest_at


@dataclass(frozen=True, slots=True)
class Early:
    """A claim refused since the timer is due only after `wait` seconds."""

    wait: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to call; `error` is the failure's kind and detail."""

    number: int
    due_at: datetime
    sent_at: datetime | None
    status_code: int | None
    error: str | None
    duration: timedelta | None
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class Report:
    """How a claimed timer has ended; without an attempt if none was made."""

    id: UUID
    token: UUID
    outcome: Outcome
    error: str | None
    attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Postponement:
    """A claimed timer that is to be tried again after `delay`.

    Without an attempt if none was made. The counters are those to store.
    """

    id: UUID
    token: UUID
    delay: timedelta
    error: str | None
    attempt: Attempt | None
    connect_failures: int
    retry_until: datetime | None
    retries: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The news that a claimed timer's request has left, or was answered.

    sent_at      None if it was answered before all of it had left
    status_code  None as long as there is no answer
    """

    id: UUID
    token: UUID
    sent_at: datetime | None
    status_code: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A claim whose worker died after it had marked the answer's status."""

    claim: Claim
    status_code: int
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredTimer:
    """A timer as the API shows it; `time_left` in seconds, 0 if expired.

    attempts  those that have ended or are under way
    """

    retry: RetryPolicy | None
    id: UUID
    url: str
    method: str
    time_left: int
    created_at: datetime
    due_at: datetime
    next_at: datetime
    fired_at: datetime | None
    sent_at: datetime | None
    outcome: str | None
    deferred: bool
    status_code: int | None
    error: str | None
    at_least_once: bool
    max_lateness: timedelta | None
    attempts: int


@dataclass(frozen=True, slots=True)
class GaveUpFilter:
    """Which of the timers that gave up are meant.

    host          of their URLs, as `webhooks.target` has it; None: any
    port          with that host, the port of their URLs; None: any
    since, until  bounds of `due_at`, the latter not included; None: none
    after         only those behind this timer, in the order of `due_at`
    """

    outcomes: Sequence[Outcome]
    host: str | None = None
    port: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: UUID | None = None

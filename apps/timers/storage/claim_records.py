"""What workers ask of the store, and tell it, about timers they claim."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from apps.timers.models import Outcome
from apps.timers.storage.records import Attempt, ClockReading
from apps.webhooks.request import WebhookRequest
from apps.webhooks.retry import RetryPolicy


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
    labels: Mapping[str, str] | None
    id: UUID
    token: UUID
    account: int
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
    """A claim refused since the timer is due only after `wait` seconds.

    moved  whether a caller moved it: then its message may well come early
    """

    wait: float
    moved: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A claim refused since the operator holds all calls."""


#: None: the timer is someone else's, has ended, or never was.
ClaimAnswer = Claim | Early | Held | None


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

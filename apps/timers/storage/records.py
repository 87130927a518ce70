"""What goes into the store and what comes out of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, get_args
from uuid import UUID

from apps.core.database import Connection
from apps.webhooks.request import WebhookRequest
from apps.webhooks.retry import RetryPolicy

#: What a timer may be; `reading.STATUS` says which it is.
Status = Literal[
    "scheduled", "deferred", "retrying", "firing",
    "delivered", "failed", "unknown", "missed", "cancelled",
]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Definition:
    """What is to be called, and how."""

    url: str
    request: WebhookRequest = field(default_factory=WebhookRequest)
    at_least_once: bool = False
    retry: RetryPolicy | None = None
    max_lateness: timedelta | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class NewTimer:
    """A timer to be stored.

    account  whose it is, by its id
    delay   counts from Postgres's clock, unless there is a `due_at`
    queued  whether it is near, and will be published right after
    """

    id: UUID
    account: int
    definition: Definition
    delay: timedelta
    queued: bool
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A request's `Idempotency-Key`, and what it asks for.

    fingerprint  of the request's body; another body is another request
    time_left    the answer to the first such request, in seconds
    """

    key: str
    fingerprint: bytes
    time_left: int


@dataclass(frozen=True, slots=True)
class NamedTimer:
    """A timer to be stored under a key of the caller's, or once a request.

    takes_key  whether it takes its key from a timer that is being called
    latest_at  until when `extend` may move it; None: for ever
    """

    timer: NewTimer
    key: str | None = None
    request_key: RequestKey | None = None
    takes_key: bool = False
    latest_at: datetime | None = None

    @property
    def name(self) -> "Name":
        """The account and the key: what is unique, and is locked."""
        return self.timer.account, self.key


#: An account, and a key of a timer of it.
Name = tuple[int, str | None]


@dataclass(frozen=True, slots=True)
class Stored:
    """The timer was stored, or changed.

    publish_at  when it is due, on `time.monotonic()`, if its message is to be
                published now
    """

    timer: "StoredTimer"
    publish_at: float | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """Not stored: this timer has the key, and has not ended."""

    timer_id: UUID


@dataclass(frozen=True, slots=True)
class Repeated:
    """Not stored again: an earlier request with this key made this timer.

    is_same  whether it asked for the same
    """

    timer_id: UUID
    time_left: int
    is_same: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A change that a caller makes to a waiting timer.

    account     whose timer it has to be
    what        moved, changed or fired; kept as an event
    version     the timer changes only if it has this one; None: any
    delay, due_at  the new time; if both are None, the time stays
    latest_at   a bound for the new time
    definition  what takes the place of the old one; None: it stays
    """

    id: UUID
    account: int
    what: str
    version: int | None = None
    delay: timedelta | None = None
    due_at: datetime | None = None
    latest_at: datetime | None = None
    definition: Definition | None = None


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


def read_clock(connection: Connection) -> ClockReading:
    """Read Postgres's clock.

    A time that a writing statement returns is a commit old when the answer
    arrives, and a commit may take longer than a rung of the ladder.
    """
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return ClockReading(row[0], time.monotonic())


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A timer to be published; `at` is its time on `time.monotonic()`."""

    id: UUID
    at: float
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to call; `error` is the failure's kind and detail.

    encrypted_with  the id of the key of the stored answer; None if it is not
                    encrypted, or is not stored yet
    """

    number: int
    due_at: datetime
    sent_at: datetime | None
    status_code: int | None
    error: str | None
    duration: timedelta | None
    answer: bytes | None
    encrypted_with: str | None = None


@dataclass(frozen=True, slots=True)
class StoredTimer:
    """A timer as the API shows it; `time_left` in seconds, 0 if expired.

    attempts   those that have ended or are under way
    erased_at  when what it called was erased, None if it was not
    """

    retry: RetryPolicy | None
    labels: Mapping[str, str] | None
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
    key: str | None
    version: int
    attempts: int
    status: Status
    erased_at: datetime | None = None

    @property
    def late_ms(self) -> float | None:
        """How long after its due time the last request left, if it did."""
        if self.sent_at is None:
            return None
        return (self.sent_at - self.due_at).total_seconds() * 1000

    @property
    def waits(self) -> bool:
        """Whether it has not ended, and is not being called."""
        return self.outcome is None and self.fired_at is None


@dataclass(frozen=True, slots=True)
class TimerFilter:
    """Which timers are meant; at most one of host, key and labels is given.

    statuses      as `StoredTimer.status` has them; none: all
    host          of their URLs, as `webhooks.target` has it; None: any
    port          with that host, the port of their URLs; None: any
    key           None: any, or none
    key_begins    whether only the key's beginning is given
    labels        names and values, all of which they have
    since, until  bounds of `due_at`, the latter not included; None: none
    after         only those behind this timer, in the order of `due_at`
    latest_first  whether that order is the other way round
    """

    statuses: Sequence[str] = ()
    host: str | None = None
    port: int | None = None
    key: str | None = None
    key_begins: bool = False
    labels: Sequence[tuple[str, str]] = ()
    since: datetime | None = None
    until: datetime | None = None
    after: UUID | None = None
    latest_first: bool = False

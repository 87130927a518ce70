"""What is known of a timer and of its claims, apart from Postgres."""

from dataclasses import dataclass, field
from uuid import UUID

from apps.timers.storage.claim_records import Report
from apps.timers.storage.records import Attempt, NewTimer
from apps.webhooks.destination import Deferral
from apps.webhooks.results import Result
from apps.webhooks.retry import RetryPolicy

TICK = 1e-6  # Postgres's resolution


class Violation(AssertionError):
    """Something happened that must never happen."""


class Broken(BaseException):
    """A violation on its way out: no `except Exception` may act on it."""


def must(condition: object, sentence: str) -> None:
    """Raise Broken, which ends as a Violation, unless the condition holds."""
    if not condition:
        raise Broken(sentence)


def doubled(first: float, failures: int, longest: float = 60.0) -> float:
    """Return the seconds to wait after so many failures, without chance."""
    return min(longest, first * 2.0 ** (failures - 1))


@dataclass(frozen=True)
class Terms:
    """What a timer was like when it was claimed."""

    #: The number of the try.
    number: int
    due: float
    retries: int
    failures: int
    retry_until: float | None
    latest: float | None


@dataclass
class Grant:
    """A claim that was granted.

    It may be granted once more after its end, by a message that is late.
    """

    token: UUID
    #: As its worker was told them.
    terms: Terms
    lease_end: float = 0  # as Postgres counts, from the statement
    own_end: float = 0  # as its worker counts, from before the statement
    #: Its worker can know that it came too late.
    late: bool = False
    deferral: Deferral | None = None
    left_at: float | None = None
    #: When its worker knew that, at the latest.
    noted_at: float = 0
    #: What its worker knows of the call.
    result: Result | None = None
    #: Its worker has said what follows.
    judged: bool = False
    #: Postgres was told that the request left before anybody could take
    #: the claim over.
    marked: bool = False
    #: …and so was the status that it was answered.
    answered: bool = False
    recorded: bool = False
    postponed: bool = False
    #: Its timer was replayed since.
    over: bool = False

    @property
    def sent(self) -> bool:
        """Whether a request has left."""
        return self.left_at is not None


@dataclass
class Try:
    """A try that has ended: whether by its worker's own word or not."""

    grant: Grant
    due: float
    told: bool
    #: Whether it was to be known that it was sent.
    marked: bool


@dataclass
class Life:
    """What is known of one timer."""

    id: UUID
    again: bool
    retry: RetryPolicy | None
    not_before: float
    due: float
    lateness: float | None = None
    latest: float | None = None
    #: Its caller's own name for it, and whether it still goes by it.
    key: str | None = None
    has_key: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    #: One more with each change.
    version: int = 1
    #: The latest of the checker's looks at which it could not be changed, at
    #: which it could, and at which it had not given up; and the one before
    #: its replay.
    closed_at: int = -1
    open_at: int = -1
    not_given_up_at: int = -1
    replayed_at: int = -1
    grants: dict[UUID, Grant] = field(default_factory=dict)
    #: The token of the claim that holds it now.
    holder: UUID | None = None
    #: How many claims have tried, or are about to.
    claims: int = 0
    #: Of the latest claims, by their numbers.
    terms: dict[int, Terms] = field(default_factory=dict)
    #: By their numbers.
    tries: dict[int, Try] = field(default_factory=dict)
    cancelled: bool = False
    reopenings: int = 0  # since it was last postponed
    retries: int = 0
    #: How often in a row it could not be connected to, and until when
    #: that is tried again.
    failures: int = 0
    retry_until: float | None = None
    late_report: Report | None = None

    @classmethod
    def of(cls, timer: NewTimer, now: float) -> "Life":
        """Return a life that begins now."""
        due = now + timer.delay.total_seconds()
        asked = timer.definition
        life = cls(timer.id, asked.at_least_once, asked.retry, due, due)
        life.labels = dict(asked.labels or {})
        if asked.max_lateness is not None:
            life.lateness = asked.max_lateness.total_seconds()
            life.latest = due + life.lateness
        return life

    @property
    def sent(self) -> list[Grant]:
        """Return the claims within which a request has left."""
        grants = self.grants.values()
        return [grant for grant in grants if grant.sent and not grant.over]

    @property
    def open(self) -> list[Grant]:
        """Return those of them of which Postgres was not told the end."""
        return [grant for grant in self.sent if not grant.postponed]

    @property
    def is_called(self) -> bool:
        """Whether it is being called, or may have been received."""
        return self.holder is not None or bool(self.sent and not self.retries)

    @property
    def is_known_called(self) -> bool:
        """Whether Postgres knows that."""
        marked = any(grant.marked for grant in self.open)
        return self.holder is not None or (marked and not self.retries)

    @property
    def known_sent(self) -> bool:
        """Whether Postgres was told in time that a request left."""
        return any(grant.marked or grant.postponed for grant in self.sent)

    def move(self, due: float, now: float) -> None:
        """Note that it is due at another time."""
        self.due, self.not_before = due, max(due, now)
        self.latest = None if self.lateness is None else due + self.lateness
        self.failures, self.retry_until = 0, None

    def replay(self, now: float) -> None:
        """Note that it begins anew, due now; its numbers go on."""
        for grant in self.grants.values():
            grant.over = True
        self.holder, self.not_before = None, now
        self.latest = None if self.lateness is None else now + self.lateness
        self.reopenings = self.retries = self.failures = 0
        self.retry_until = None

    def claimed(self) -> None:
        """Note that a claim holds the timer that none has held."""
        self.claims += 1
        self.terms[self.claims] = Terms(
            self.claims,
            self.not_before,
            self.retries,
            self.failures,
            self.retry_until,
            self.latest,
        )

    def keep(self, grant: Grant, attempt: Attempt | None) -> None:
        """Note what a worker has told of its try, if it made one."""
        if attempt is not None:
            told = Try(grant, grant.terms.due, True, grant.sent)
            self.tries[attempt.number] = told

    def presume(self, grant: Grant) -> None:
        """Note that the worker of the latest try has died."""
        # A claim that was granted again by a late message has sent nothing.
        marked = grant.marked and not grant.postponed
        presumed = Try(grant, self.not_before, False, marked)
        self.tries.setdefault(self.claims, presumed)

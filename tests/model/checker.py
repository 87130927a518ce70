"""What must always be true of a timer: the reference for the model.

It hears of every statement's answer and of every request that leaves, and
keeps its own account of claims and leases. Times are seconds of the
model's clock.
"""

from dataclasses import dataclass, field
from uuid import UUID

from apps.timers import store
from apps.timers.models import Outcome
from apps.timers.records import (
    Claim,
    Mark,
    NewTimer,
    Postponement,
    Report,
    Wish,
)
from tests.model.postgres import Row, seconds

_LEASE = store.LEASE.total_seconds()
_LEAD = store.LEAD.total_seconds()
_SETTLE = store.SETTLE.total_seconds()
_TICK = 1e-6  # Postgres's resolution


class Violation(AssertionError):
    """Something happened that must never happen."""


def must(condition: object, sentence: str) -> None:
    """Raise Violation unless the condition holds."""
    if not condition:
        raise Violation(sentence)


@dataclass
class Grant:
    """A claim that was granted."""

    token: UUID
    lease_end: float  # as Postgres counts, from the statement
    own_end: float = 0  # as its worker counts, from before the statement
    sent: bool = False
    #: Postgres was told so before anybody could take the claim over.
    marked: bool = False
    recorded: bool = False


@dataclass
class Life:
    """What is known of one timer."""

    again: bool
    not_before: float
    grants: dict[UUID, Grant] = field(default_factory=dict)
    #: The token of the claim that holds it now.
    holder: UUID | None = None
    cancelled: bool = False
    reopenings: int = 0  # since it was last postponed
    retry_until: float | None = None
    postponements: set[UUID] = field(default_factory=set)
    late_report: Report | None = None

    @property
    def sent(self) -> list[Grant]:
        """Return the claims within which a request has left."""
        return [grant for grant in self.grants.values() if grant.sent]


class Checker:
    """Raises Violation as soon as a promise is broken."""

    def __init__(self) -> None:
        self.lives: dict[UUID, Life] = {}
        self._rows: dict[UUID, Row] = {}
        self._away_since = self._settled = 0.0

    def created(self, timer: NewTimer, now: float) -> None:
        """Follow a timer from now on."""
        due = now + timer.delay.total_seconds()
        self.lives[timer.id] = Life(timer.at_least_once, due)

    def returned(self, away_since: float, now: float) -> None:
        """Note that Postgres is back: what it kept waiting comes first."""
        self._away_since, self._settled = away_since, now + _SETTLE

    def granted(self, claim: Claim, now: float) -> None:
        """Check for one claim at a time, and not before its time."""
        life = self.lives[claim.id]
        grant = life.grants.setdefault(claim.token, Grant(claim.token, 0))
        if life.holder is not None:
            must(
                life.holder == claim.token,
                "a timer was claimed while another claim held it",
            )
        must(not life.cancelled, "a cancelled timer was claimed")
        must(now >= life.not_before - _LEAD - _TICK, "claimed too early")
        grant.lease_end = now + _LEASE
        life.holder = claim.token

    def refused(self, wish: Wish) -> None:
        """Check that no claim is refused whose grant was not answered."""
        must(
            self.lives[wish.id].holder != wish.token
            or self.has_ended(wish.id),
            "a claim was refused to its own holder",
        )

    def answered(self, wish: Wish, asked_at: float) -> None:
        """Note that the worker has its claim's or renewal's answer."""
        grant = self.lives[wish.id].grants[wish.token]
        grant.own_end = asked_at + _LEASE

    def renewed(self, wish: Wish, kept: bool, now: float) -> None:
        """Check that the claim that is renewed holds its timer."""
        holds = self._holds(wish, kept, "renewal")
        if holds:
            self.lives[wish.id].grants[wish.token].lease_end = now + _LEASE

    def sending(self, timer_id: UUID, token: UUID, now: float) -> None:
        """Check the heart of it: a request leaves."""
        life = self.lives[timer_id]
        grant = life.grants[token]
        must(now >= life.not_before - _TICK, "sent before it was due")
        must(now < grant.own_end, "sent after the lease's end")
        must(not life.cancelled, "sent although cancelled")
        for other in life.sent:
            must(not other.recorded, "sent again after a record")
            must(life.again or not other.marked, "sent again after a mark")
        must(life.holder == token, "sent without holding the claim")
        grant.sent = True

    def marked(self, mark: Mark, now: float) -> None:
        """Note that Postgres was told that a request left."""
        grant = self.lives[mark.id].grants[mark.token]
        grant.marked |= self._in_time(grant, now)

    def recorded(self, report: Report, done: bool, now: float) -> None:
        """Check that the claim that ends a timer holds it."""
        life = self.lives[report.id]
        grant = life.grants[report.token]
        self._holds(Wish(report.id, report.token), done, "record")
        if done:
            grant.recorded = True
            life.late_report = report
        if self._in_time(grant, now):
            must(done, "a record in time was refused")
            grant.marked |= grant.sent

    def postponing(self, item: Postponement, now: float) -> None:
        """Check that a worker tries again later within bounds."""
        life = self.lives[item.id]
        until = seconds(item.retry_until)
        must(not life.grants[item.token].sent, "sent and postponed")
        if life.retry_until is not None:
            must(
                abs(until - life.retry_until) < _TICK,
                "the end of all tries was moved",
            )
        first = item.token not in life.postponements
        life.postponements.add(item.token)
        must(
            not first or now + item.delay.total_seconds() <= until + _TICK,
            "postponed beyond the end of all tries",
        )

    def postponed(self, item: Postponement, done: bool, now: float) -> None:
        """Check that the claim that opens a timer again holds it."""
        wish = Wish(item.id, item.token)
        if self._holds(wish, done, "postponement"):
            life = self.lives[item.id]
            life.holder, life.reopenings = None, 0
            life.retry_until = seconds(item.retry_until)
            life.not_before = now + item.delay.total_seconds()

    def cancelled(self, timer_id: UUID) -> None:
        """Note that the creator was promised that there is no call."""
        life = self.lives[timer_id]
        must(life.holder is None, "cancelled while claimed")
        must(
            not any(grant.marked for grant in life.sent),
            "cancelled although it is known to have been sent",
        )
        life.cancelled = True

    def has_ended(self, timer_id: UUID) -> bool:
        """Tell whether a timer had an outcome when last observed."""
        row = self._rows.get(timer_id)
        return row is not None and row["outcome"] is not None

    def not_cancelled(self, timer_id: UUID) -> None:
        """Check that of a cancel and a claim one wins."""
        life = self.lives[timer_id]
        must(
            life.holder is not None
            or self.has_ended(timer_id)
            or life.sent,
            "neither claimed nor cancelled",
        )

    def taken_over(
        self, timer_id: UUID, outcome: Outcome | None, now: float
    ) -> None:
        """Check that a claim may end without a record."""
        life = self.lives[timer_id]
        must(life.holder is not None, "taken over without a claim")
        assert life.holder is not None
        must(
            now > life.grants[life.holder].lease_end,
            "taken over before the lease's end",
        )
        must(now > self._settled, "taken over right after Postgres came back")
        if outcome is None:
            life.holder = None
            life.reopenings += 1
            must(
                life.reopenings <= store.MOST_REOPENINGS,
                "opened again too often",
            )
        elif outcome is Outcome.FAILED or life.again:
            must(
                life.reopenings == store.MOST_REOPENINGS,
                "given up too early",
            )

    def observed(self, rows: dict[UUID, Row]) -> None:
        """Look at what Postgres says after each step."""
        for timer_id, row in rows.items():
            old = self._rows.get(timer_id)
            life = self.lives[timer_id]
            if old is not None and old["outcome"] and old != row:
                self._corrected(old, row, life)
            elif row["outcome"] and not (old and old["outcome"]):
                self._ended(row, life)
            life.late_report = None
        self._rows = rows

    def _in_time(self, grant: Grant, now: float) -> bool:
        """Tell whether nobody can have taken the claim over by now."""
        if grant.lease_end >= self._away_since and now <= self._settled:
            return True
        return now <= grant.lease_end

    def _holds(self, wish: Wish, done: bool, what: str) -> bool:
        """Check a write's answer: a lost claim's must be refused."""
        holds = self.lives[wish.id].holder == wish.token
        must(holds or not done, f"the {what} of a lost claim succeeded")
        return done

    def _corrected(self, old: Row, row: Row, life: Life) -> None:
        """Check that a claim's own report corrects what was presumed."""
        presumed = old["outcome"] == Outcome.UNKNOWN or (
            old["error"] or ""
        ).startswith("worker_lost")
        report = life.late_report
        must(
            presumed
            and report is not None
            and report.token == old["claim_token"]
            and report.outcome == row["outcome"],
            f"an outcome was changed: {old} to {row}",
        )

    def _ended(self, row: Row, life: Life) -> None:
        """Check that an outcome is true."""
        outcome, report = row["outcome"], life.late_report
        if outcome == Outcome.CANCELLED:
            must(life.cancelled, "an outcome that nobody brought about")
        elif outcome == Outcome.UNKNOWN:
            must(life.sent, "unknown, although never sent")
        elif (row["error"] or "").startswith("worker_lost"):
            must(
                not any(grant.marked for grant in life.sent),
                "worker_lost, although known to have been sent",
            )
        else:
            must(
                report is not None and report.outcome == outcome,
                "an outcome that nobody reported",
            )
        if outcome == Outcome.DELIVERED:
            must(life.sent, "delivered, although never sent")

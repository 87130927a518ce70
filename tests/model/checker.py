"""What must always be true of a timer: the reference for the model.

It hears of every statement's answer and of every request that leaves, and
keeps its own account of claims and leases. Times are seconds of the
model's clock.
"""

from dataclasses import replace
from uuid import UUID

from apps.timers.models import GAVE_UP, Outcome
from apps.timers.storage import claiming, taking_over
from apps.timers.storage.claim_records import (
    Claim,
    ClaimRequest,
    Mark,
    Postponement,
    Report,
)
from apps.timers.storage.records import NewTimer
from tests.model.attempts import check_attempts
from tests.model.judging import failures_after
from tests.model.life import TICK, Grant, Life, must
from tests.model.limits import Limit
from tests.model.postgres import Row, maybe_seconds, seconds

_LEASE = claiming.LEASE.total_seconds()
_LEAD = claiming.LEAD.total_seconds()
_SETTLE = taking_over.SETTLE.total_seconds()
#: A timer that was tried so often is not replayed.
MOST_ATTEMPTS = 4


class Checker:
    """Raises Violation as soon as a promise is broken."""

    def __init__(self) -> None:
        self.lives: dict[UUID, Life] = {}
        #: Whether the operator holds all calls.
        self.held = False
        #: How many timers there may be, if that is limited.
        self.limit: Limit | None = None
        #: How often it has looked at the rows.
        self.looks = 0
        self._rows: dict[UUID, Row] = {}
        self._away_since = self._settled = 0.0

    def created(self, timer: NewTimer, now: float) -> Life:
        """Follow a timer from now on."""
        life = self.lives[timer.id] = Life.of(timer, now)
        life.open_at = self.looks
        return life

    def returned(self, away_since: float, now: float) -> None:
        """Note that Postgres is back: what it kept waiting comes first."""
        self._away_since, self._settled = away_since, now + _SETTLE

    def granted(self, claim: Claim, now: float) -> None:
        """Check for one claim at a time, and not before its time."""
        life = self.lives[claim.id]
        if life.holder is None:
            must(not self.held, "a timer was claimed during a hold")
            life.claimed()
        else:
            must(
                life.holder == claim.token,
                "a timer was claimed while another claim held it",
            )
        must(not life.cancelled, "a cancelled timer was claimed")
        must(now >= life.not_before - _LEAD - TICK, "claimed too early")
        must(claim.attempt == life.claims, "a try was numbered wrongly")
        grant = life.grants.get(claim.token)
        if grant is None or grant.over:
            grant = Grant(claim.token, life.terms[claim.attempt])
        life.grants[claim.token] = grant
        grant.lease_end = now + _LEASE
        life.holder = claim.token

    def refused(self, request: ClaimRequest) -> None:
        """Check that no claim is refused whose grant was not answered."""
        must(
            self.lives[request.id].holder != request.token
            or self.has_ended(request.id),
            "a claim was refused to its own holder",
        )

    def answered(
        self, request: ClaimRequest, answer: Claim | bool, asked_at: float
    ) -> None:
        """Note that the worker has its claim's or renewal's answer."""
        life = self.lives[request.id]
        grant = life.grants[request.token]
        grant.own_end = asked_at + _LEASE
        if isinstance(answer, Claim):
            grant.terms = life.terms[answer.attempt]
            came_at = seconds(answer.clock.database)
            latest = grant.terms.latest
            grant.late = latest is not None and came_at > latest

    def renewed(self, request: ClaimRequest, kept: bool, now: float) -> None:
        """Check that the claim that is renewed holds its timer."""
        holds = self._holds(request, kept, "renewal")
        if holds:
            grant = self.lives[request.id].grants[request.token]
            grant.lease_end = now + _LEASE

    def begun(self, grant: Grant, now: float) -> None:
        """Check that a call begins in time, by its worker's clock."""
        latest = grant.terms.latest
        must(latest is None or now <= latest, "begun too late")

    def sending(
        self, life: Life, grant: Grant, now: float, known: float
    ) -> None:
        """Check the heart of it: a request leaves.

        `known` is the time as its worker knows it.
        """
        must(now >= life.not_before - TICK, "sent before it was due")
        must(now < grant.own_end, "sent after the lease's end")
        must(not life.cancelled, "sent although cancelled")
        for other in life.open:
            must(not other.recorded, "sent again after a record")
            must(life.again or not other.marked, "sent again after a mark")
        failed = sum(grant.postponed for grant in life.sent)
        most = life.retry.max_attempts if life.retry else 1
        must(failed < most, "sent again more often than is wished")
        must(life.holder == grant.token, "sent without holding the claim")
        grant.left_at = known

    def marked(self, mark: Mark, now: float) -> None:
        """Note that Postgres was told that a request left."""
        grant = self.lives[mark.id].grants[mark.token]
        in_time = self._in_time(grant, now)
        grant.marked |= in_time
        grant.answered |= in_time and mark.status_code is not None

    def recorded(self, report: Report, done: bool, now: float) -> None:
        """Check that the claim that ends a timer holds it."""
        life = self.lives[report.id]
        grant = life.grants[report.token]
        self._holds(ClaimRequest(report.id, report.token), done, "record")
        if done:
            if report.attempt is None and not self.has_ended(life.id):
                life.claims -= 1
            grant.recorded = True
            life.keep(grant, report.attempt)
            life.late_report = report
        if self._in_time(grant, now):
            must(done, "a record in time was refused")
            grant.marked |= grant.sent

    def postponed(self, item: Postponement, done: bool, now: float) -> None:
        """Check that the claim that opens a timer again holds it."""
        life = self.lives[item.id]
        grant = life.grants[item.token]
        must(
            done or grant.postponed or not self._in_time(grant, now),
            "a postponement in time was refused",
        )
        asked = ClaimRequest(item.id, item.token)
        if self._holds(asked, done, "postponement"):
            grant.postponed = True
            life.keep(grant, item.attempt)
            life.claims -= item.attempt is None
            life.holder, life.reopenings = None, 0
            life.not_before = now + item.delay.total_seconds()
            life.failures = failures_after(grant, item)
            life.retries = item.retries
            life.retry_until = maybe_seconds(item.retry_until)

    def cancelled(self, timer_id: UUID) -> None:
        """Note that the creator was promised that there is no call."""
        self.changed(timer_id, "cancelled").cancelled = True

    def moved(self, timer_id: UUID, due: float, now: float) -> None:
        """Note that the creator was promised a call at another time."""
        self.changed(timer_id, "moved").move(due, now)

    def changed(self, timer_id: UUID, what: str) -> Life:
        """Check that a timer could be changed, and return it."""
        must(not self.has_ended(timer_id), f"{what} after its end")
        return self._free(timer_id, what)

    def replayed(self, timer_id: UUID, now: float) -> None:
        """Check that a timer had given up; it begins anew."""
        must(self.gave_up(timer_id), "replayed, although it had not given up")
        life = self.lives[timer_id]
        must(life.claims < MOST_ATTEMPTS, "replayed too often")
        opened = self._rows[timer_id] | {"outcome": None}
        self._rows = self._rows | {timer_id: opened}
        life.replayed_at = self.looks
        life.replay(now)

    def _free(self, timer_id: UUID, what: str) -> Life:
        """Return a timer that nobody may be calling."""
        life = self.lives[timer_id]
        must(life.holder is None, f"{what} while claimed")
        must(
            life.retries or not any(grant.marked for grant in life.open),
            f"{what} although it is known to have been sent",
        )
        return life

    def has_ended(self, timer_id: UUID) -> bool:
        """Tell whether a timer is known to have an outcome."""
        row = self._rows.get(timer_id)
        has_outcome = row is not None and row["outcome"] is not None
        return has_outcome or self.lives[timer_id].cancelled

    def gave_up(self, timer_id: UUID) -> bool:
        """Tell whether a timer had given up when last observed."""
        row = self._rows.get(timer_id)
        return row is not None and row["outcome"] in GAVE_UP

    def taken_over(
        self, timer_id: UUID, outcome: Outcome | None, now: float
    ) -> None:
        """Check that a claim may end without a record."""
        life = self.lives[timer_id]
        must(life.holder is not None, "taken over without a claim")
        assert life.holder is not None
        grant = life.grants[life.holder]
        self._check_lapsed(grant, now)
        must(not grant.answered, "an answer was forgotten")
        life.presume(grant)
        if outcome is None:
            life.holder = None
            life.reopenings += 1
            must(
                life.reopenings <= taking_over.MOST_REOPENINGS,
                "opened again too often",
            )
        elif outcome is Outcome.FAILED or life.again:
            must(
                life.reopenings == taking_over.MOST_REOPENINGS,
                "given up too early",
            )

    def answered_for(
        self, item: Report | Postponement, now: float
    ) -> Grant:
        """Check that a dead worker's claim ends by its answer's status."""
        grant = self.lives[item.id].grants[item.token]
        self._check_lapsed(grant, now)
        must(grant.result is not None, "an answer was made up")
        assert grant.result is not None
        return replace(grant, result=replace(grant.result, retry_after=None))

    def _check_lapsed(self, grant: Grant, now: float) -> None:
        must(now > grant.lease_end, "taken over before the lease's end")
        must(now > self._settled, "taken over right after Postgres came back")

    def kept(self, attempts: dict[UUID, list[Row]]) -> None:
        """Look at what is kept of all tries."""
        for timer_id, life in self.lives.items():
            check_attempts(life, attempts.get(timer_id, []))

    def observed(self, rows: dict[UUID, Row]) -> None:
        """Look at what Postgres says after each step."""
        self.looks += 1
        for timer_id, row in rows.items():
            old = self._rows.get(timer_id)
            life = self.lives[timer_id]
            if old is not None and old["outcome"] and old != row:
                self._corrected(old, row, life)
            elif row["outcome"] and not (old and old["outcome"]):
                self._ended(row, life)
            life.late_report = None
            must(
                row["attempts"] + row["claims"] == life.claims,
                "what was not tried counts as an attempt",
            )
        self._rows = rows
        for life in self.lives.values():
            if self.is_closed(life):
                life.closed_at = self.looks
            if self.is_open(life):
                life.open_at = self.looks
            if not self.gave_up(life.id):
                life.not_given_up_at = self.looks

    def is_closed(self, life: Life) -> bool:
        """Tell whether it is right to refuse to change a timer."""
        return life.is_called or self.has_ended(life.id)

    def is_open(self, life: Life) -> bool:
        """Tell whether it is right to change it."""
        return not (life.is_known_called or self.has_ended(life.id))

    def _in_time(self, grant: Grant, now: float) -> bool:
        """Tell whether nobody can have taken the claim over by now."""
        if grant.over:
            return False
        if grant.lease_end >= self._away_since and now <= self._settled:
            return True
        return now <= grant.lease_end

    def _holds(self, request: ClaimRequest, done: bool, what: str) -> bool:
        """Check a write's answer: a lost claim's must be refused."""
        holds = self.lives[request.id].holder == request.token
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
            must(
                life.open or (life.again and life.sent),
                "unknown, although what was sent was answered",
            )
        elif (row["error"] or "").startswith("worker_lost"):
            must(
                not any(grant.marked for grant in life.open),
                "worker_lost, although known to have been sent",
            )
        else:
            must(
                report is not None and report.outcome == outcome,
                "an outcome that nobody reported",
            )
        if outcome == Outcome.MISSED:
            must(not life.known_sent, "missed, although known to be sent")

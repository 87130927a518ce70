"""What follows from a try: the timer has ended, or is tried again later.

There are three cases. A request that never left can't have been received: it
is tried again for a while, for every timer. A request that was answered, but
not with 2xx, is tried again if the timer says so (`retry`). A request that
left and was not answered may have been received: it is tried again only if
the timer says that, too.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from apps.timers.models import Outcome
from apps.timers.storage.claim_records import (
    Answered,
    Claim,
    Postponement,
    Report,
)
from apps.timers.storage.records import Attempt
from apps.webhooks.destination import Deferral
from apps.webhooks.results import FailureKind, Result, printable
from apps.webhooks.retry import backoff, retry_after_seconds

#: Why a timer with `max_lateness` was not called.
TOO_LATE = "max_lateness: its time passed longer ago than that"
#: Failures that no later try would mend.
_FINAL = frozenset({FailureKind.blocked})
#: The receiver wants no such call any more (RFC 9110, section 15.5.11).
GONE = 410
#: Answers that may say when to come again (RFC 6585, RFC 9110).
BUSY = frozenset({429, 503})
#: How long before its latest time a timer is tried for the last time, and
#: how much time must be left for that.
_MARGIN = timedelta(milliseconds=100)

Decision = Report | Postponement


def judge(
    claim: Claim, result: Result, sent_at: datetime | None, now: datetime
) -> Decision:
    """Return what follows from a call; `now` is Postgres's clock."""
    attempt = Attempt(
        claim.attempt,
        claim.next_at,
        sent_at,
        result.status_code,
        result.error,
        timedelta(seconds=result.duration),
        result.body or None,
    )
    failure = result.failure
    if failure is None:
        return _answered(claim, attempt, result.retry_after, now)
    if failure in _FINAL:
        return _report(claim, Outcome.FAILED, result.error, attempt)
    if failure.unsent:
        failures = claim.connect_failures + 1
        delay = timedelta(seconds=backoff(failures))
        return _try_again_unsent(
            claim, result.error, attempt, delay, failures, now
        )
    if not (claim.retry and claim.retry.unanswered):
        return _report(claim, Outcome.FAILED, result.error, attempt)
    return _retry(claim, result.error, attempt, now, None)


def of_the_dead(answered: Answered) -> Decision:
    """Return what follows from the status that a dead worker has marked."""
    claim = answered.claim
    attempt = Attempt(
        claim.attempt,
        claim.next_at,
        answered.sent_at,
        answered.status_code,
        error=None,
        duration=None,
        answer=None,
    )
    return _answered(claim, attempt, None, claim.clock.database)


def _answered(
    claim: Claim, attempt: Attempt, retry_after: str | None, now: datetime
) -> Decision:
    """Return what follows from an answer, whatever it is."""
    code = attempt.status_code
    if code is not None and 200 <= code < 300:
        return _report(claim, Outcome.DELIVERED, None, attempt)
    if code == GONE:
        return _report(claim, Outcome.FAILED, None, attempt)
    asked = retry_after_seconds(retry_after, now) if code in BUSY else None
    return _retry(claim, None, attempt, now, asked)


def invalid(claim: Claim, error: str) -> Report:
    """Return the end of a timer whose row can't be called."""
    return _report(claim, Outcome.FAILED, f"invalid: {error}", None)


def broken(
    claim: Claim,
    error: Exception,
    sent_at: datetime | None,
    now: datetime,
    status_code: int | None = None,
) -> Decision:
    """Return what follows when this service failed during, or after, a call.

    A request that has left is not sent again. A value that can't be sent is
    final. Any other failure before the request left may be tried again.
    """
    kind = "invalid" if isinstance(error, ValueError) else "internal"
    said = f"{kind}: {type(error).__name__}: {printable(str(error))}"
    attempt = Attempt(
        claim.attempt, claim.next_at, sent_at, status_code, said, None, None
    )
    if status_code is not None:
        is_good = 200 <= status_code < 300
        outcome = Outcome.DELIVERED if is_good else Outcome.FAILED
        return _report(claim, outcome, said, attempt)
    if sent_at is not None:
        return _report(claim, Outcome.UNKNOWN, said, attempt)
    if isinstance(error, ValueError):
        return _report(claim, Outcome.FAILED, said, attempt)
    failures = claim.connect_failures + 1
    delay = timedelta(seconds=backoff(failures))
    return _try_again_unsent(claim, said, attempt, delay, failures, now)


def deferred(claim: Claim, deferral: Deferral, now: datetime) -> Decision:
    """Return what follows when a destination takes no more calls now."""
    delay = timedelta(seconds=deferral.wait)
    if deferral.hanging:
        return _try_again_unsent(
            claim, deferral.reason, None, delay, claim.connect_failures, now
        )
    in_time = _in_time(claim, now, delay)
    if in_time is None:
        return too_late(claim, deferral.reason)
    return _postponed(claim, in_time, deferral.reason, None)


def too_late(
    claim: Claim, error: str | None, attempt: Attempt | None = None
) -> Report:
    """Return the end of a timer that can't be called in time any more.

    It ends as missed, or as failed if it was called before.
    """
    outcome = Outcome.FAILED if claim.called else Outcome.MISSED
    return _report(claim, outcome, error, attempt)


def _in_time(
    claim: Claim, now: datetime, delay: timedelta
) -> timedelta | None:
    """Return the delay, cut to leave time for a last try; None if too late."""
    if claim.latest_at is None:
        return delay
    left = claim.latest_at - _MARGIN - now
    return min(delay, left) if left >= _MARGIN else None


def _try_again_unsent(
    claim: Claim,
    error: str | None,
    attempt: Attempt | None,
    delay: timedelta,
    failures: int,
    now: datetime,
) -> Decision:
    """Try again for as long as the service's patience lasts."""
    in_time = _in_time(claim, now, delay)
    if in_time is None:
        return too_late(claim, error, attempt)
    patience = timedelta(seconds=settings.WEBHOOK_CONNECT_RETRY_SECONDS)
    until = claim.retry_until or now + patience
    if now + in_time > until:
        return _retry(claim, error, attempt, now, None)
    return _postponed(
        claim,
        in_time,
        error,
        attempt,
        connect_failures=failures,
        retry_until=until,
    )


def _retry(
    claim: Claim,
    error: str | None,
    attempt: Attempt | None,
    now: datetime,
    retry_after: float | None,
) -> Decision:
    """Try again if the timer's policy says so, each time with new patience."""
    policy, retries = claim.retry, claim.retries + 1
    if policy is None or retries >= policy.max_attempts:
        return _report(claim, Outcome.FAILED, error, attempt)
    delay = timedelta(seconds=policy.delay(retries, retry_after))
    if claim.latest_at is not None and now + delay > claim.latest_at:
        return _report(claim, Outcome.FAILED, error, attempt)
    return _postponed(
        claim,
        delay,
        error,
        attempt,
        connect_failures=0,
        retry_until=None,
        retries=retries,
    )


def _report(
    claim: Claim, outcome: Outcome, error: str | None, attempt: Attempt | None
) -> Report:
    return Report(claim.id, claim.token, outcome, error, attempt)


def _postponed(
    claim: Claim,
    delay: timedelta,
    error: str | None,
    attempt: Attempt | None,
    **counters: Any,
) -> Postponement:
    """Open the timer again; of its counters, change only the given ones."""
    kept = {
        "connect_failures": claim.connect_failures,
        "retry_until": claim.retry_until,
        "retries": claim.retries,
    }
    return Postponement(
        claim.id, claim.token, delay, error, attempt, **kept | counters
    )


def details(
    claim: Claim, attempt: Attempt | None, error: str | None
) -> dict[str, object]:
    """Return what a log line says of a timer that was tried."""
    details: dict[str, object] = {"timer": claim.id}
    if attempt is not None:
        if attempt.sent_at is not None:
            late = (attempt.sent_at - claim.due_at).total_seconds()
            details["late_ms"] = round(late * 1000, 1)
        if attempt.status_code is not None:
            details["status"] = attempt.status_code
    if error is not None:
        details["error"] = error
    if attempt is not None and attempt.duration is not None:
        took = attempt.duration.total_seconds()
        details["took_ms"] = round(took * 1000, 1)
    return details

"""What a worker may conclude from a try: the reference for decisions.

`now` is the time on Postgres's clock as the worker knows it.
"""

from apps.timers.models import Outcome
from apps.timers.storage.claim_records import Postponement, Report
from tests.model.life import TICK, Grant, Life, doubled, must
from tests.model.postgres import maybe_seconds

#: Connecting is tried for so long, in seconds: short, to see its end.
PATIENCE = 60.0
#: What is less before the latest time is not worth a try, in seconds.
_MARGIN = 0.2


def check_postponement(
    life: Life, grant: Grant, item: Postponement, now: float
) -> None:
    """Check that a timer is tried again as it may be, and within bounds."""
    at = now + item.delay.total_seconds()
    must(at > now, "postponed into the past")
    latest = grant.terms.latest
    must(
        latest is None or at <= latest + TICK,
        "postponed beyond its latest time",
    )
    if item.retries == grant.terms.retries:
        must(not grant.sent, "sent and postponed, but not as a retry")
        _check_patience(life, grant, item, now)
    else:
        _check_retry(life, grant, item, now)


def _check_patience(
    life: Life, grant: Grant, item: Postponement, now: float
) -> None:
    """Check a postponement of what did not leave."""
    until = maybe_seconds(item.retry_until)
    if grant.terms.retry_until is not None or _is_busy(grant):
        must(
            until == grant.terms.retry_until, "the end of all tries was moved"
        )
    else:
        must(until is not None, "there is no end of all tries")
    at, wait = now + item.delay.total_seconds(), _unsent_wait(grant)
    if until is not None and not _is_busy(grant):
        must(at <= until + TICK, "postponed beyond the end of all tries")
    latest = grant.terms.latest
    cut = latest is not None and now + wait > latest - _MARGIN
    must(cut or at >= now + wait - TICK, "tried again too soon")


def _check_retry(
    life: Life, grant: Grant, item: Postponement, now: float
) -> None:
    """Check a postponement that counts as one of the retries."""
    policy, result = life.retry, grant.result
    must(policy is not None, "retried against its creator's wish")
    assert policy is not None
    must(
        grant.terms.retries + 1 == item.retries < policy.max_attempts,
        "retried too often",
    )
    wait = doubled(policy.min_delay, item.retries, policy.max_delay)
    if not grant.sent:
        must(_is_out_of_patience(grant, now), "patience ended early")
    else:
        assert result is not None
        code = result.status_code
        must(code is not None or policy.unanswered, "sent again, unanswered")
        must(code not in (200, 410), "sent again after a final answer")
        wait = max(wait, float(result.retry_after or 0))
    must(item.delay.total_seconds() >= wait - TICK, "retried too soon")
    must(item.retry_until is None, "a retry has no patience of its own")


def check_report(life: Life, grant: Grant, report: Report, now: float) -> None:
    """Check that a timer's end is true, and not too early."""
    result, latest = grant.result, grant.terms.latest
    code = result.status_code if result else None
    must(
        (report.outcome is Outcome.DELIVERED) == (code == 200),
        f"{report.outcome} after an answer of {code}",
    )
    if report.outcome is Outcome.MISSED:
        must(
            latest is not None and now > latest - _MARGIN - TICK,
            "missed too early",
        )
    elif report.outcome is Outcome.FAILED and latest is None:
        _check_giving_up(life, grant, code, now)


def _check_giving_up(
    life: Life, grant: Grant, code: int | None, now: float
) -> None:
    """Check that all that the creator wishes was tried."""
    if not grant.sent:
        must(_is_out_of_patience(grant, now), "patience ended early")
    elif code == 410 or (code is None and not _repeats_unanswered(life)):
        return
    must(
        life.retry is None
        or grant.terms.retries + 1 >= life.retry.max_attempts,
        "given up before its retries were used up",
    )


def _repeats_unanswered(life: Life) -> bool:
    return life.retry is not None and life.retry.unanswered


def failures_after(grant: Grant, item: Postponement) -> int:
    """Return how often in a row a timer could not be connected to."""
    if item.retries > grant.terms.retries:
        return 0
    return grant.terms.failures + (grant.deferral is None)


def _is_busy(grant: Grant) -> bool:
    return grant.deferral is not None and not grant.deferral.hanging


def _unsent_wait(grant: Grant) -> float:
    if grant.deferral is not None:
        return grant.deferral.wait
    return doubled(1.0, grant.terms.failures + 1)


def _is_out_of_patience(grant: Grant, now: float) -> bool:
    until = now + PATIENCE
    if grant.terms.retry_until is not None:
        until = grant.terms.retry_until
    return now + _unsent_wait(grant) > until - TICK

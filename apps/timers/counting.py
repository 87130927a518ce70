"""Counting what happens to timers, for /metrics."""

import time
from collections.abc import Iterable

from apps.monitoring.metrics import catalogue
from apps.timers.decisions import Decision
from apps.timers.models import Outcome
from apps.timers.storage.claim_records import Report
from apps.timers.storage.records import Attempt


def decided(decision: Decision) -> None:
    """Count what came of a claim, once that is recorded."""
    if isinstance(decision, Report):
        catalogue.ENDED.add(of=decision.outcome)
    elif decision.attempt is not None:
        catalogue.RETRIES.add()
    else:
        catalogue.DEFERRALS.add()
    if decision.attempt is not None:
        _tried(decision.attempt)


def answered(decisions: Iterable[Decision]) -> None:
    """Count dead workers' claims whose answers decided."""
    for decision in decisions:
        catalogue.TAKEN_OVER.add(of="answered")
        decided(decision)


def taken_over(outcome: Outcome | None) -> None:
    """Count a dead worker's claim; None: the timer is open again."""
    catalogue.TAKEN_OVER.add(of="open" if outcome is None else outcome)
    catalogue.CALLS.add(of="worker_died")
    if outcome is not None:
        catalogue.ENDED.add(of=outcome)


def passed(*, is_good: bool) -> None:
    """Count a pass of a dispatcher or a feeder."""
    catalogue.PASSES.add(of="good" if is_good else "failed")
    if is_good:
        catalogue.LAST_GOOD_PASS.set(time.time())


def _tried(attempt: Attempt) -> None:
    catalogue.CALLS.add(of=_result(attempt))
    if attempt.sent_at is not None:
        late = attempt.sent_at - attempt.due_at
        catalogue.LATENESS.observe(late.total_seconds())
    if attempt.duration is not None:
        catalogue.DURATION.observe(attempt.duration.total_seconds())


def _result(attempt: Attempt) -> str:
    """Return a value of the label `result`, whatever was answered."""
    if attempt.status_code is not None:
        result = f"{attempt.status_code // 100}xx"
    else:
        result = (attempt.error or "").partition(":")[0]
    return result if catalogue.CALLS.knows(result) else catalogue.OTHER

"""What is counted when something is decided."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from prometheus_client import generate_latest

from apps.monitoring.metrics.exposition import counted
from apps.timers import counting, decisions
from apps.timers.decisions import Decision
from apps.timers.models import Outcome
from apps.timers.storage.claim_records import Report
from apps.timers.storage.records import Attempt
from apps.webhooks.destination import Deferral
from apps.webhooks.results import FailureKind
from tests.support.metrics import parsed
from tests.unit.timers.test_decisions import (
    CLAIM,
    DUE,
    NOW,
    POLICY,
    claim,
    judge,
)

DEFERRAL = Deferral(3.0, hanging=False, reason="busy: so many calls")
#: The parts of a histogram are counted in other tests.
PARTS = ("_bucket", "_sum")


class Counts:
    """What has been counted since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def _now(self) -> Counter[str]:
        return parsed(generate_latest(counted()).decode())

    def new(self) -> dict[str, float]:
        grown = self._now() - self._before
        return {
            name.removeprefix("timers_"): value
            for name, value in grown.items()
            if not name.split()[0].endswith((*PARTS, "timestamp_seconds"))
        }


@pytest.fixture
def counts() -> Counts:
    return Counts()


TRIED = {"call_lateness_seconds_count": 1, "call_duration_seconds_count": 1}


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (
            judge(204, CLAIM),
            {"ended_total delivered": 1, "calls_total 2xx": 1, **TRIED},
        ),
        (
            judge(503, claim(retry=POLICY)),
            {"retries_total": 1, "calls_total 5xx": 1, **TRIED},
        ),
        (
            judge(FailureKind.timeout, CLAIM),
            {"ended_total failed": 1, "calls_total timeout": 1, **TRIED},
        ),
        (
            decisions.deferred(CLAIM, DEFERRAL, NOW),
            {"deferrals_total": 1},
        ),
        (
            decisions.too_late(CLAIM, decisions.TOO_LATE),
            {"ended_total missed": 1},
        ),
        (
            decisions.broken(CLAIM, TypeError("x"), DUE, NOW),
            {
                "ended_total unknown": 1, "calls_total internal": 1,
                "call_lateness_seconds_count": 1,
            },
        ),
    ],
)  # fmt: skip
def test_a_decision(
    decision: Decision, expected: dict[str, float], counts: Counts
) -> None:
    counting.decided(decision)

    assert counts.new() == expected


@pytest.mark.parametrize(
    ("status_code", "error"),
    [(99, None), (600, None), (None, None), (None, "https://a.b/: gone")],
)
def test_an_unknown_result_is_another_one(
    status_code: int | None, error: str | None, counts: Counts
) -> None:
    attempt = Attempt(1, DUE, None, status_code, error, None, None)
    report = Report(uuid4(), uuid4(), Outcome.FAILED, error, attempt)

    counting.decided(report)

    assert counts.new() == {"ended_total failed": 1, "calls_total other": 1}


def test_lateness_counts_from_when_the_try_was_due(counts: Counts) -> None:
    # Given the second try of a timer, ten minutes after the first
    late = claim(next_at=DUE + timedelta(minutes=10))
    decision = judge(200, late)
    assert decision.attempt is not None
    sent_at = late.next_at + timedelta(milliseconds=1.5)
    attempt = replace(decision.attempt, sent_at=sent_at)

    counting.decided(replace(decision, attempt=attempt))

    found = counts._now() - counts._before
    assert found["timers_call_lateness_seconds_bucket 0.001"] == 0
    assert found["timers_call_lateness_seconds_bucket 0.002"] == 1


def test_what_is_taken_over(counts: Counts) -> None:
    for outcome in (None, Outcome.UNKNOWN, Outcome.FAILED):
        counting.taken_over(outcome)
    counting.answered([judge(200, CLAIM), judge(500, claim(retry=POLICY))])

    new = counts.new()
    assert {name: new[name] for name in new if "call_" not in name} == {
        "taken_over_total open": 1, "taken_over_total unknown": 1,
        "taken_over_total failed": 1, "taken_over_total answered": 2,
        "ended_total unknown": 1, "ended_total failed": 1,
        "ended_total delivered": 1, "retries_total": 1,
        "calls_total worker_died": 3, "calls_total 2xx": 1,
        "calls_total 5xx": 1,
    }  # fmt: skip


def test_passes(counts: Counts) -> None:
    counting.passed(is_good=True)
    counting.passed(is_good=False)
    counting.passed(is_good=False)

    assert counts.new() == {
        "passes_total good": 1, "passes_total failed": 2
    }

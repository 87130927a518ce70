"""What follows from a try: ended, or tried again, and when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from apps.timers import decisions
from apps.timers.decisions import Decision
from apps.timers.storage.claim_records import Claim, Postponement, Report
from apps.timers.storage.records import ClockReading
from apps.webhooks.destination import Deferral
from apps.webhooks.request import WebhookRequest
from apps.webhooks.results import FailureKind, Result
from apps.webhooks.retry import MOST_RETRY_AFTER, RetryPolicy

DUE = datetime(2026, 3, 1, tzinfo=UTC)
NOW = DUE + timedelta(seconds=1)
POLICY = RetryPolicy(3, 10, 3600, unanswered=False)
CLAIM = Claim(
    ClockReading(DUE, 0.0), WebhookRequest(), None, None, uuid4(), uuid4(), 1,
    "http://receiver.example/", DUE, DUE, DUE, None,
    connect_failures=0, retry_until=None, attempts=0, claims=1, retries=0,
    called=False,
)


def claim(**changes: Any) -> Claim:
    return replace(CLAIM, **changes)


def result(what: int | FailureKind, retry_after: str | None = None) -> Result:
    code, kind = (what, None) if isinstance(what, int) else (None, what)
    return Result(
        code, kind, "x", sent=True, body=b"", duration=0.1,
        retry_after=retry_after,
    )


def judge(
    what: int | FailureKind, of: Claim, retry_after: str | None = None
) -> Decision:
    return decisions.judge(of, result(what, retry_after), DUE, NOW)


def ends(decision: Decision) -> str:
    assert isinstance(decision, Report)
    return decision.outcome.value


def again_in(decision: Decision) -> float:
    assert isinstance(decision, Postponement)
    return decision.delay.total_seconds()


UNANSWERED = [
    FailureKind.timeout, FailureKind.reset, FailureKind.stale,
    FailureKind.protocol,
]
UNSENT = [
    kind for kind in FailureKind
    if kind.unsent and kind not in (FailureKind.blocked, FailureKind.aborted)
]
NOT_2XX = [301, 400, 404, 429, 500, 503]


@pytest.mark.parametrize("code", [200, 204, 299])
def test_2xx_is_delivered_whatever_was_before(code: int) -> None:
    assert ends(judge(code, claim(retry=POLICY, retries=1))) == "delivered"


@pytest.mark.parametrize("what", [*NOT_2XX, *UNANSWERED])
def test_without_a_policy_what_left_is_final(what: int | FailureKind) -> None:
    decision = judge(what, CLAIM)
    assert ends(decision) == "failed"
    assert decision.attempt is not None
    assert decision.attempt.status_code == (what if what in NOT_2XX else None)


@pytest.mark.parametrize("what", NOT_2XX)
def test_with_one_an_answer_is_tried_again(what: int) -> None:
    decision = judge(what, claim(retry=POLICY))
    assert 5 <= again_in(decision) <= 10
    assert isinstance(decision, Postponement)
    assert (decision.retries, decision.connect_failures) == (1, 0)
    assert decision.attempt is not None
    assert decision.attempt.number == 1


@pytest.mark.parametrize("what", UNANSWERED)
def test_what_may_have_been_received_only_if_that_is_asked_for(
    what: FailureKind,
) -> None:
    assert ends(judge(what, claim(retry=POLICY))) == "failed"
    asked = replace(POLICY, unanswered=True)
    assert 5 <= again_in(judge(what, claim(retry=asked))) <= 10


@pytest.mark.parametrize(
    ("what", "retries"), [(410, 0), (500, 2), (FailureKind.blocked, 0)]
)
def test_gone_the_last_attempt_and_refusals_of_our_own_end_it(
    what: int | FailureKind, retries: int
) -> None:
    policy = replace(POLICY, unanswered=True)
    assert ends(judge(what, claim(retry=policy, retries=retries))) == "failed"


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(40, 10, 60, unanswered=False)
    for retries, full in enumerate((10, 20, 40, 60, 60, 60)):
        wait = again_in(judge(500, claim(retry=policy, retries=retries)))
        assert full / 2 <= wait <= full


@pytest.mark.parametrize(
    ("code", "header", "least", "most"),
    [
        (503, "120", 120, 120),
        (429, "120", 120, 120),
        (503, "Sun, 01 Mar 2026 00:02:01 GMT", 120, 120),
        (503, "Sun, 01 Mar 2026 00:02:01 -0000", 120, 120),
        (503, "999999999999", MOST_RETRY_AFTER, MOST_RETRY_AFTER),
        # Not asked for long enough, or not by who may ask, or unreadable.
        (503, "1", 5, 10),
        (500, "120", 5, 10),
        (503, "soon", 5, 10),
        (503, "-120", 5, 10),
        (503, "", 5, 10),
        (503, "Sun, 01 Mar 2020 00:00:00 GMT", 5, 10),
        (503, "Sun, 99 Mar 2026 00:00:00 GMT", 5, 10),
        (503, "\u0661\u0662", 5, 10),
    ],
)
def test_a_receiver_may_ask_for_a_longer_pause(
    code: int, header: str, least: float, most: float
) -> None:
    wait = again_in(judge(code, claim(retry=POLICY), header))
    assert least <= wait <= most


@pytest.mark.parametrize("kind", UNSENT)
def test_what_did_not_leave_is_tried_again_for_a_while(
    kind: FailureKind, settings: Settings
) -> None:
    # Given its first failure: the patience begins, whatever the policy
    decision = judge(kind, CLAIM)
    assert 0.5 <= again_in(decision) <= 1
    assert isinstance(decision, Postponement)
    patience = timedelta(seconds=settings.WEBHOOK_CONNECT_RETRY_SECONDS)
    assert decision.retry_until == NOW + patience
    assert (decision.connect_failures, decision.retries) == (1, 0)

    # When it is over, Then a policy has it tried again with a new one
    impatient = claim(connect_failures=5, retry_until=NOW)
    assert ends(judge(kind, impatient)) == "failed"
    decision = judge(kind, replace(impatient, retry=POLICY))
    assert 5 <= again_in(decision) <= 10
    assert isinstance(decision, Postponement)
    assert (decision.connect_failures, decision.retries) == (0, 1)
    assert decision.retry_until is None


BUSY = Deferral(3.0, hanging=False, reason="busy: so many calls")
HANGING = Deferral(3.0, hanging=True, reason="hanging: no answers")


@pytest.mark.parametrize("deferral", [BUSY, HANGING])
def test_who_is_deferred_made_no_attempt(deferral: Deferral) -> None:
    decision = decisions.deferred(claim(connect_failures=2), deferral, NOW)
    assert again_in(decision) == 3
    assert decision.error == deferral.reason
    assert decision.attempt is None
    assert isinstance(decision, Postponement)
    assert (decision.connect_failures, decision.retries) == (2, 0)


def test_patience_with_a_host_that_hangs_ends_with_a_busy_one_does_not(
) -> None:
    impatient = claim(retry_until=NOW + timedelta(seconds=2))
    assert ends(decisions.deferred(impatient, HANGING, NOW)) == "failed"
    assert again_in(decisions.deferred(impatient, BUSY, NOW)) == 3
    first = decisions.deferred(CLAIM, HANGING, NOW)
    assert isinstance(first, Postponement)
    assert first.retry_until is not None


@pytest.mark.parametrize("what", [BUSY, HANGING, FailureKind.refused])
@pytest.mark.parametrize(
    ("left", "delay"),
    [(60.0, 3.0), (2.0, 1.9), (0.25, 0.15), (0.15, None), (-1.0, None)],
)
def test_before_it_is_too_late_there_is_a_last_try(
    what: Deferral | FailureKind, left: float, delay: float | None
) -> None:
    of = claim(
        latest_at=NOW + timedelta(seconds=left), connect_failures=2,
    )
    if isinstance(what, Deferral):
        decision = decisions.deferred(of, what, NOW)
    else:
        decision = judge(what, of)
    assert of.latest_at is not None
    if delay is None:
        assert ends(decision) == "missed"
        assert decision.error
    else:
        assert again_in(decision) == pytest.approx(delay, rel=0.5)
        assert NOW + timedelta(seconds=again_in(decision)) < of.latest_at


def test_what_was_called_is_not_missed() -> None:
    late = claim(latest_at=NOW, called=True, retry=POLICY)
    assert ends(decisions.deferred(late, BUSY, NOW)) == "failed"
    assert ends(judge(500, late)) == "failed"
    later = replace(late, latest_at=NOW + timedelta(seconds=60))
    assert 5 <= again_in(judge(500, later)) <= 10

"""GET /timer/{id}/explain: a claimed timer, and dead workers."""

from datetime import timedelta
from uuid import UUID

import pytest

from apps.timers import decisions
from apps.timers.models import Outcome
from apps.timers.storage import claiming, recording, taking_over
from apps.timers.storage.claim_records import Mark
from tests.support.explained import comes, explained, happened, summary
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    new_timer,
    report,
)

pytestmark = pytest.mark.usefixtures("local_calls")


def takes_over(timer_id: UUID, outcome: Outcome | None) -> None:
    """Let a claim's lease end, and a dispatcher find that."""
    change(timer_id, "leased_until = now() - interval '1 s'")
    assert taking_over.take_over(limit=9) == [(timer_id, outcome)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over soon after a start of Postgres."""
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))


def test_a_claim_from_its_start_to_its_end() -> None:
    start = "A worker claimed it at T, to call it (attempt 1). "
    rest = " The worker has until T to report or to ask for more time."
    if_not = "If the worker has not reported by then, "

    # Given a timer that is claimed
    claim = claimed(new_timer(-1))
    assert summary(claim.id) == (
        f"{start}As far as is known, its request has not left.{rest}"
    )
    assert comes(claim.id) == (
        "leased_until", f"{if_not}the timer is called again at once."
    )

    # When its request has left
    claiming.mark_sent([Mark(claim.id, claim.token, database_clock())])
    assert summary(claim.id) == (
        f"{start}The request had left at T; there is no answer yet.{rest}"
    )
    assert comes(claim.id)[1] == (
        f"{if_not}the timer ends as unknown: the request is not sent again."
    )
    assert happened(claim.id)[1:] == [
        ("claimed", "A worker claimed it for attempt 1."),
        ("sent", "The request of attempt 1 had left."),
    ]

    # When its answer has begun
    claiming.mark_sent([Mark(claim.id, claim.token, None, 200)])
    assert summary(claim.id) == (
        f"{start}The receiver has answered 200; that is not recorded yet."
        f"{rest}"
    )
    assert comes(claim.id)[1] == (
        f"{if_not}the answer 200 decides what follows."
    )

    # When it is recorded
    recording.record([report(claim)])
    assert summary(claim.id) == (
        "It was delivered: its receiver answered 200. The request had left at"
        " T, N after the timer's time."
    )
    assert explained(claim.id)["next"] is None


def test_a_worker_died_before_the_call() -> None:
    # Given a worker that says nothing
    timer_id = claimed(new_timer(-0.1)).id
    change(timer_id, "leased_until = now() - interval '3 s'")
    assert summary(timer_id) == (
        "A worker claimed it at T, to call it (attempt 1). As far as is known,"
        " its request has not left. Its worker had until T to report, and did"
        " not: it died or is cut off. The claim has been over for N; it is"
        " ended within seconds, but not in the first N after Postgres was"
        " away. No worker is known to run."
    )
    assert comes(timer_id)[1] == (
        "The claim is ended: the timer is called again at once."
    )

    # When its claim is ended
    takes_over(timer_id, None)
    assert summary(timer_id).startswith(
        "Attempt 1: its worker died before the call. Its claim was ended, and"
        " another worker may take it. It "
    )
    assert happened(timer_id)[1:] == [
        ("worker lost", "Attempt 1: its worker died before the call."),
    ]


def test_each_worker_died() -> None:
    timer_id = new_timer(-1)
    for _ in range(taking_over.MOST_REOPENINGS):
        claimed(timer_id)
        takes_over(timer_id, None)
    claimed(timer_id)
    assert comes(timer_id)[1].endswith(
        "the timer ends as failed: it lost too many workers."
    )
    takes_over(timer_id, Outcome.FAILED)
    assert summary(timer_id) == (
        "It failed: worker_lost: 6 workers died before the call. The timer may"
        " be what makes workers die; it was not sent. It can be replayed."
    )


def test_a_worker_died_after_the_request_had_left() -> None:
    # Given two timers whose workers died in the call
    once, again = (
        claimed(new_timer(-1, at_least_once=repeats))
        for repeats in (False, True)
    )
    for claim in once, again:
        claiming.mark_sent([Mark(claim.id, claim.token, database_clock())])
    takes_over(once.id, Outcome.UNKNOWN)
    takes_over(again.id, None)

    # Then one is not sent again, the other is
    assert summary(once.id) == (
        "Nobody knows what came of it. The request had left at T. No answer"
        " was recorded: the worker died after the request had left. The"
        " receiver may have acted on it, or not. It is not sent again. It can"
        " be replayed."
    )
    assert summary(again.id).startswith(
        "Attempt 1: its worker died after the request had left. Its claim was"
        " ended, and another worker may take it. It "
    )


def test_a_worker_died_after_the_status() -> None:
    claim = claimed(new_timer(-1))
    claiming.mark_sent([Mark(claim.id, claim.token, database_clock(), 204)])
    change(claim.id, "leased_until = now() - interval '1 s'")
    found = [
        decisions.of_the_dead(each) for each in taking_over.answered(limit=9)
    ]
    recording.record_for_the_dead(found)  # type: ignore[arg-type]
    assert summary(claim.id).startswith(
        "It was delivered: its receiver answered 204."
    )

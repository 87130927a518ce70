"""Of a cancel and a claim exactly one succeeds."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from apps.timers.firing import fire
from apps.timers.storage import changing, claiming, queueing, recording
from apps.timers.storage.claim_records import Claim, ClaimRequest
from tests.support.accounts import OWNER
from tests.support.receiver import Receiver
from tests.support.rows import (
    change,
    claimed,
    new_timer,
    new_timers,
    postponement,
    row,
)

pytestmark = pytest.mark.usefixtures("db_pool")


def is_claimed(timer_id: UUID) -> bool:
    (answer,) = claiming.claim([ClaimRequest(timer_id, uuid4())])
    return isinstance(answer, Claim)


def test_of_a_cancel_and_a_claim_at_once_one_succeeds() -> None:
    start = threading.Barrier(2)

    def is_cancelled(timer_id: UUID) -> bool:
        return changing.cancel(OWNER, timer_id)

    def at_once(act: Callable[[UUID], bool], timer_id: UUID) -> bool:
        start.wait()
        return act(timer_id)

    # Given many timers that are due
    cancels = 0
    with ThreadPoolExecutor(2) as threads:
        for number, timer_id in enumerate(new_timers(300)):
            # When each is cancelled and claimed at the same time
            acts = [is_cancelled, is_claimed]
            done = {
                act: threads.submit(at_once, act, timer_id)
                for act in (acts if number % 2 else reversed(acts))
            }
            was_cancelled, was_claimed = (done[act].result() for act in acts)

            # Then one of them has it, and the row says which
            assert was_cancelled != was_claimed
            found = row(timer_id)
            assert (found["outcome"] == "cancelled") == was_cancelled
            assert (found["fired_at"] is None) == was_cancelled
            cancels += was_cancelled

    # And it was a race
    assert 0 < cancels < 300


def test_in_a_group_of_claims_only_the_cancelled_one_is_refused() -> None:
    timers = new_timers(5)
    assert changing.cancel(OWNER, timers[2])
    answers = claiming.claim([ClaimRequest(each, uuid4()) for each in timers])
    assert [isinstance(answer, Claim) for answer in answers] == [
        True, True, False, True, True,
    ]
    assert answers[2] is None  # and not early
    assert row(timers[2])["claims"] == 0


@pytest.mark.parametrize("seconds", [-5, 30])
def test_nobody_looks_for_a_cancelled_timer(seconds: float) -> None:
    # Given a queued timer that is cancelled
    timer_id = new_timer(seconds, queued=True)
    change(timer_id, "queued_at = now() - interval '2 minutes'")
    assert changing.cancel(OWNER, timer_id)
    assert row(timer_id)["queued_at"] is None

    # Then it is not queued again
    for overdue in (True, False):
        assert queueing.promote(overdue=overdue, limit=9) == []
        assert queueing.due(
            overdue=overdue, ahead=queueing.HORIZON, limit=9
        ) == []
    assert queueing.lost(idle=True, limit=9) == []
    assert queueing.count_near() == (0, 0)
    queueing.unqueue([timer_id])
    assert not changing.cancel(OWNER, timer_id)


@pytest.mark.parametrize("seconds", [-5, 30])
@pytest.mark.usefixtures("local_calls")
def test_the_message_of_a_cancelled_timer_does_nothing(
    receiver: Receiver, seconds: float
) -> None:
    timer_id = new_timer(seconds, url=receiver.url(), queued=True)
    assert changing.cancel(OWNER, timer_id)
    before = row(timer_id)
    fire.fire(timer_id)
    assert receiver.calls == []
    assert row(timer_id) == before


def test_a_timer_that_is_tried_again_can_be_cancelled_between_tries() -> None:
    timer_id = new_timer(-5)
    mine = claimed(timer_id)
    assert not changing.cancel(OWNER, timer_id)
    assert recording.postpone([postponement(mine)]) == [True]
    assert changing.cancel(OWNER, timer_id)
    assert not is_claimed(timer_id)
    assert recording.postpone([postponement(mine)]) == [False]
    assert row(timer_id)["outcome"] == "cancelled"


def test_there_is_nothing_to_cancel_of_another_id() -> None:
    assert not changing.cancel(OWNER, uuid4())

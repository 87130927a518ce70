"""Renewing claims, and opening them again for a later try."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from apps.timers.models import Outcome
from apps.timers.storage import claiming, queueing, recording, taking_over
from apps.timers.storage.claim_records import Claim, ClaimRequest, Early
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    new_timer,
    new_timers,
    postponement,
    report,
    row,
)

pytestmark = pytest.mark.usefixtures("db_pool")


def renew(claim: Claim) -> bool:
    return claiming.renew([ClaimRequest(claim.id, claim.token)])[0]


def postpone(claim: Claim) -> bool:
    return recording.postpone([postponement(claim)])[0]


def end(claim: Claim) -> None:
    """Let a claim's lease have ended."""
    change(claim.id, "leased_until = now() - interval '1 s'")


def take_over(claim: Claim) -> None:
    end(claim)
    assert taking_over.take_over(limit=9) == [(claim.id, None)]


def claim_again(claim: Claim) -> None:
    take_over(claim)
    claimed(claim.id)


def end_as_unknown(claim: Claim) -> None:
    change(claim.id, "sent_at = now()")
    end(claim)
    assert taking_over.take_over(limit=9) == [(claim.id, Outcome.UNKNOWN)]


LOSSES: dict[str, Callable[[Claim], object]] = {
    "recorded": lambda claim: recording.record([report(claim)]),
    "postponed": postpone,
    "taken over": take_over,
    "another's": claim_again,
    "unknown": end_as_unknown,
}


def test_a_renewed_claim_holds_for_a_whole_lease_again() -> None:
    # Given a claim whose lease has ended, but was not taken over
    mine = claimed(new_timer())
    end(mine)
    before = row(mine.id)

    # When it is renewed, Then nothing but its lease has changed
    now = database_clock()
    assert renew(mine)
    found = row(mine.id)
    lease = found["leased_until"] - now
    assert claiming.LEASE <= lease < claiming.LEASE + timedelta(seconds=2)
    assert found == {**before, "leased_until": found["leased_until"]}


@pytest.mark.parametrize("write", [renew, postpone])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_claim_that_was_lost_is_neither_renewed_nor_postponed(
    write: Callable[[Claim], bool], loss: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    mine = claimed(new_timer())
    LOSSES[loss](mine)
    before = row(mine.id)
    assert not write(mine)
    assert row(mine.id) == before


@pytest.mark.parametrize("write", [renew, postpone])
def test_both_need_the_token(write: Callable[[Claim], bool]) -> None:
    mine = claimed(new_timer())
    before = row(mine.id)
    assert not write(replace(mine, token=uuid4()))
    assert not write(replace(mine, id=uuid4()))
    assert row(mine.id) == before


def test_in_a_group_each_has_its_own_answer() -> None:
    first, second = (claimed(timer_id) for timer_id in new_timers(2))
    lost = replace(first, id=second.id)
    claims = [second, lost, first, second]
    requests = [ClaimRequest(claim.id, claim.token) for claim in claims]
    # `lost` has the token of a claim that is renewed, for another timer.
    assert claiming.renew([requests[0], requests[2]]) == [True, True]
    assert claiming.renew([requests[1]]) == [False]
    assert recording.postpone(
        [postponement(claim) for claim in (lost, second)]
    ) == [False, True]
    assert row(first.id)["fired_at"] is not None


def test_a_postponed_claim_is_a_timer_that_waits() -> None:
    # Given a claim of a timer that lost a worker before
    timer_id = new_timer(-5, queued=True)
    change(timer_id, "claims = 3")
    mine = claimed(timer_id)
    before = row(timer_id)

    # When it is postponed
    now = database_clock()
    postponed = postponement(mine, 40)
    assert recording.postpone([postponed]) == [True]

    # Then it waits for its next time, and remembers why, and until when
    found = row(timer_id)
    wait = found["next_at"] - now
    assert postponed.delay <= wait < postponed.delay + timedelta(seconds=2)
    assert found == {
        **before,
        "next_at": found["next_at"],
        "fired_at": None, "claim_token": None, "leased_until": None,
        "queued_at": None, "claims": 0, "attempts": 4, "connect_failures": 1,
        "retry_until": postponed.retry_until, "error": postponed.error,
    }
    assert mine.attempt == 4

    # And is no more overdue than any other
    (early,) = claiming.claim([ClaimRequest(timer_id, uuid4())])
    assert isinstance(early, Early)
    assert 35 < early.wait <= 40
    assert queueing.promote(overdue=True, limit=9) == []
    (near,) = queueing.promote(overdue=False, limit=9)
    assert near.id == timer_id

    # And its next try has the next number
    change(timer_id, "next_at = now()")
    assert claimed(timer_id).attempt == 5


def test_it_is_postponed_again_and_again() -> None:
    timer_id = new_timer(-5)
    until = None
    for failures in range(3):
        mine = claimed(timer_id)
        assert mine.connect_failures == failures
        assert mine.retry_until == until
        assert postpone(mine)
        assert not postpone(mine)
        until = row(timer_id)["retry_until"]
    assert row(timer_id)["connect_failures"] == 3
    last = claimed(timer_id)
    assert last.attempt == 4
    assert recording.record([report(last)]) == [True]
    found = row(timer_id)
    assert (found["outcome"], found["error"]) == ("delivered", None)

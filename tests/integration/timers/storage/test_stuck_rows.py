"""No times that a row may hold keep its timer for ever."""

from datetime import timedelta
from uuid import UUID

import pytest

from apps.broker.memory import MemoryBroker
from apps.timers.scheduling.feeder import Feeder
from apps.timers.storage import (
    aside,
    claiming,
    queueing,
    recording,
    taking_over,
)
from apps.timers.storage.claim_records import ClaimRequest, Mark
from tests.support.poison import (
    STUCK_CLAIMS,
    STUCK_WAITING,
    seal,
)
from tests.support.rows import change, claimed, new_timer, report, row
from tests.support.timers import value_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("clean_rows")


@pytest.fixture
def feeder(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> Feeder:
    """Return what does a pass when it is told to; leases are short."""
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    monkeypatch.setattr(claiming, "LEASE", timedelta(milliseconds=50))
    made = Feeder(memory_broker)
    made.close()
    return made


def is_so(timer_id: UUID, condition: str) -> bool:
    return bool(value_of(f"SELECT {condition} FROM timer WHERE id = %s",
                         timer_id))


@pytest.mark.parametrize("kind", STUCK_CLAIMS)
def test_no_claim_is_kept_for_ever(feeder: Feeder, kind: str) -> None:
    # Given the claim of a dead worker, whose row is spoilt
    timer_id = claimed(new_timer(-5)).id
    spoiling, expected = STUCK_CLAIMS[kind]
    change(timer_id, spoiling)

    # When passes are done, Then it is over, or waits for another claim
    done = "leased_until IS NULL AND (fired_at IS NULL OR outcome IS NOT NULL)"

    def is_done() -> bool:
        feeder.run_once()
        return is_so(timer_id, f"{done} AND {expected}")

    eventually(is_done, within=5)
    failed = "outcome <> 'failed' OR error ~ '^(invalid|worker_lost): .'"
    assert is_so(timer_id, f"outcome IS NULL OR {failed}")


@pytest.mark.parametrize("kind", STUCK_WAITING)
def test_none_waits_for_ever(
    feeder: Feeder, memory_broker: MemoryBroker, kind: str
) -> None:
    # Given a timer whose row is spoilt
    timer_id = new_timer(-5)
    change(timer_id, STUCK_WAITING[kind])

    # When a pass is done, Then it ends with a reason, or is handed on
    feeder.run_once()
    found = [near.id for near in queueing.lost(idle=True, limit=10)]
    if is_so(timer_id, "outcome IS NULL"):
        assert memory_broker.known(str(timer_id)) or found == [timer_id]
        claiming.claim([ClaimRequest(timer_id, timer_id)])
        assert is_so(timer_id, "outcome = 'failed' OR fired_at IS NOT NULL")
    else:
        assert is_so(timer_id, "outcome = 'failed' AND error ~ '^invalid: .'")


def test_who_lives_renews_a_lease_that_was_limited(feeder: Feeder) -> None:
    # Given a worker whose claim's lease was made endless, or taken away
    for spoiling in ("leased_until = 'infinity'", "leased_until = NULL"):
        claim = claimed(new_timer(-5))
        change(claim.id, spoiling)
        feeder.run_once()
        assert is_so(claim.id, "leased_until < now() + interval '1 s'")

        # When it has called, Then that is what becomes of the timer
        assert claiming.renew([ClaimRequest(claim.id, claim.token)]) == [True]
        claiming.mark_sent([Mark(claim.id, claim.token, claim.clock.database)])
        assert recording.record([report(claim)]) == [True]
        assert row(claim.id)["outcome"] == "delivered"


def test_a_lease_as_it_should_be_is_left_alone(
    feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "LEASE", timedelta(seconds=20))
    claim = claimed(new_timer(-5))
    before = row(claim.id)
    feeder.run_once()
    assert row(claim.id) == before


def test_one_that_nobody_can_write_stops_no_other(
    feeder: Feeder, memory_broker: MemoryBroker
) -> None:
    # Given claims whose leases never end, of which one can't be changed
    claims = [claimed(new_timer(-5)) for _ in range(3)]
    for claim in claims:
        change(claim.id, "leased_until = 'infinity'")
    waiting = new_timer(-5)
    change(waiting, "next_at = 'infinity'")
    seal(claims[1].id)

    # When passes are done, Then the others wait anew, and what can't has ended
    def is_done() -> bool:
        feeder.run_once()
        known = [memory_broker.known(str(claim.id)) for claim in claims]
        return known == [True, False, True]

    eventually(is_done, within=5)
    assert is_so(waiting, "outcome = 'failed'")
    assert aside.skipped.ids() == [claims[1].id]

"""Opening timers again that gave up: the same row, a new life."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from apps.core.database import pool
from apps.timers.models import GAVE_UP, Outcome
from apps.timers.storage import (
    changing,
    claiming,
    finding,
    queueing,
    recording,
    replaying,
)
from apps.timers.storage.claim_records import Claim, ClaimRequest, Mark
from apps.timers.storage.records import TimerFilter
from apps.webhooks.retry import RetryPolicy
from tests.support.accounts import OWNER
from tests.support.databases import waiting_for_locks
from tests.support.rows import (
    attempts,
    change,
    claimed,
    database_clock,
    given_up,
    new_timers,
    postponement,
    report,
    row,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")


def replay(timer_id: UUID) -> bool:
    return replaying.replay(OWNER, [timer_id]) == {timer_id}


@pytest.mark.parametrize("outcome", GAVE_UP)
def test_a_timer_that_gave_up_begins_anew(
    outcome: Outcome,
) -> None:
    # Given a timer with a past, that gave up
    timer_id = given_up(
        outcome,
        queued=True,
        at_least_once=True,
        retry=RetryPolicy(3, 10, 60, unanswered=True),
        max_lateness=timedelta(seconds=30),
    ).id
    change(
        timer_id,
        "due_at = now() - interval '1 day', status_code = 500, claims = 2,"
        " sent_at = now(), attempts = 3, retries = 2, connect_failures = 1,"
        " retry_until = now()",
    )
    before = row(timer_id)

    # When it is replayed
    now = database_clock()
    assert replay(timer_id)

    # Then it is due now, and of its past there are its attempts
    found = row(timer_id)
    assert now <= found["next_at"] <= database_clock()
    assert found == {
        **before,
        "version": 2,
        "next_at": found["next_at"], "replayed_at": found["next_at"],
        "attempts": 5, "claims": 0, "retries": 0, "connect_failures": 0,
        **dict.fromkeys([
            "queued_at", "fired_at", "claim_token", "leased_until",
            "retry_until", "sent_at", "outcome", "status_code", "error",
        ]),
    }
    claim = claimed(timer_id)
    assert claim.attempt == 6
    assert claim.latest_at == found["next_at"] + timedelta(seconds=30)
    assert not replay(timer_id)


def test_who_did_not_give_up_is_not_replayed() -> None:
    # Given timers that wait, are tried, or have ended otherwise
    waits, retried, fires, delivered, cancelled = new_timers(5, -1)
    recording.postpone([postponement(claimed(retried))])
    claimed(fires)
    recording.record([report(claimed(delivered))])
    changing.cancel(OWNER, cancelled)
    timers = [waits, retried, fires, delivered, cancelled]
    before = [row(timer_id) for timer_id in timers]

    # When all are replayed, Then nothing happens
    assert replaying.replay(OWNER, [*timers, uuid4()]) == set()
    gave_up = TimerFilter([each.value for each in GAVE_UP])
    assert finding.find(OWNER, gave_up, limit=9) == []
    assert [row(timer_id) for timer_id in timers] == before


LATE: dict[str, Callable[[Claim], list[bool] | None]] = {
    "record": lambda old: recording.record([report(old)]),
    "postponement": lambda old: recording.postpone([postponement(old)]),
    "renewal": lambda old: claiming.renew([ClaimRequest(old.id, old.token)]),
    "mark": lambda old: claiming.mark_sent(
        [Mark(old.id, old.token, old.clock.database)]
    ),
}


@pytest.mark.parametrize("write", LATE)
@pytest.mark.parametrize("again", [False, True])
def test_what_the_old_claim_writes_late_is_lost(
    write: str, again: bool
) -> None:
    # Given a timer that was replayed, and perhaps claimed again
    old = given_up(Outcome.UNKNOWN)
    kept = attempts(old.id)
    assert replay(old.id)
    if again:
        claimed(old.id)
    before = row(old.id)

    # When its old worker has its say, Then nothing is changed by it
    assert not any(LATE[write](old) or [])
    assert row(old.id) == before
    assert attempts(old.id) == kept


def replay_too(old: Claim) -> bool:
    return replay(old.id)


def late_record(old: Claim) -> bool:
    return recording.record([report(old)])[0]


@pytest.mark.parametrize("rival", [replay_too, late_record])
def test_of_two_at_once_one_wins(rival: Callable[[Claim], bool]) -> None:
    start = threading.Barrier(2)

    def at_once(act: Callable[[Claim], bool], old: Claim) -> bool:
        start.wait()
        return act(old)

    acts = [replay_too, rival]
    wins = 0
    with ThreadPoolExecutor(2) as threads:
        for number in range(100):
            # Given a timer whose worker may still be about to report
            old = given_up(Outcome.UNKNOWN)

            # When it is replayed while something else happens to it
            done = {
                act: threads.submit(at_once, acts[act], old)
                for act in ((0, 1) if number % 2 else (1, 0))
            }
            replayed, rivalled = (done[act].result() for act in (0, 1))

            # Then one of the two has it, and the row says which
            assert replayed != rivalled
            recorded = rival is late_record and rivalled
            outcome = row(old.id)["outcome"]
            assert outcome == ("delivered" if recorded else None)
            wins += replayed
            change(old.id, "outcome = 'delivered'")

    # And it was a race
    assert 0 < wins < 100


def test_what_was_recorded_first_decides() -> None:
    # Given two timers, one of which is just being recorded as delivered
    first, second = given_up().id, given_up().id
    with ThreadPoolExecutor(1) as threads, pool().connection() as other:
        with other.transaction():
            other.execute(
                "UPDATE timer SET outcome = 'delivered' WHERE id = %s",
                [first],
            )
            # When both are replayed, Then that is waited for
            replayed = threads.submit(
                replaying.replay, OWNER, [second, first]
            )
            eventually(lambda: waiting_for_locks() == 1)
        assert replayed.result(timeout=10) == {second}
    assert row(first)["outcome"] == "delivered"


def test_a_replayed_timer_is_queued_as_on_time_and_can_be_cancelled() -> None:
    timer_id = given_up().id
    assert not changing.cancel(OWNER, timer_id)
    assert replay(timer_id)
    assert queueing.promote(overdue=True, limit=9) == []
    (near,) = queueing.promote(overdue=False, limit=9)
    assert near.id == timer_id
    assert changing.cancel(OWNER, timer_id)

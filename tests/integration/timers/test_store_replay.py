"""Opening timers again that gave up: the same row, a new life."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from apps.timers import store
from apps.timers.database import pool
from apps.timers.models import GAVE_UP, Outcome
from apps.timers.records import Claim, FailedSet, Mark, Wish
from apps.webhooks.retry import RetryPolicy
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

FAILED = FailedSet([Outcome.FAILED])


def replay(timer_id: UUID) -> bool:
    return store.replay([timer_id]) == [timer_id]


def replay_by_filter(timer_id: UUID) -> bool:
    return store.replay_failed(FailedSet(GAVE_UP), limit=9) == [timer_id]


@pytest.mark.parametrize("act", [replay, replay_by_filter])
@pytest.mark.parametrize("outcome", GAVE_UP)
def test_a_timer_that_gave_up_begins_anew(
    outcome: Outcome, act: Callable[[UUID], bool]
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
    assert act(timer_id)

    # Then it is due now, and of its past there are its attempts
    found = row(timer_id)
    assert now <= found["next_at"] <= database_clock()
    assert found == {
        **before,
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
    assert not act(timer_id)


def test_who_did_not_give_up_is_not_replayed() -> None:
    # Given timers that wait, are tried, or have ended otherwise
    waits, retried, fires, delivered, cancelled = new_timers(5, -1)
    store.postpone([postponement(claimed(retried))])
    claimed(fires)
    store.record([report(claimed(delivered))])
    store.cancel(cancelled)
    timers = [waits, retried, fires, delivered, cancelled]
    before = [row(timer_id) for timer_id in timers]

    # When all are replayed, Then nothing happens
    assert store.replay([*timers, uuid4()]) == []
    assert store.replay_failed(FailedSet(list(Outcome)), limit=9) == []
    assert [row(timer_id) for timer_id in timers] == before


LATE: dict[str, Callable[[Claim], list[bool] | None]] = {
    "record": lambda old: store.record([report(old)]),
    "postponement": lambda old: store.postpone([postponement(old)]),
    "renewal": lambda old: store.renew([Wish(old.id, old.token)]),
    "mark": lambda old: store.mark_sent(
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


def late_record(old: Claim) -> bool:
    return store.record([report(old)])[0]


RACERS: dict[str, Callable[[Claim], bool]] = {
    "replay": lambda old: replay(old.id),
    "filter": lambda old: old.id in store.replay_failed(
        FailedSet([Outcome.UNKNOWN]), limit=9
    ),
    "late record": late_record,
}


@pytest.mark.parametrize("rival", RACERS)
def test_of_two_at_once_one_wins(rival: str) -> None:
    start = threading.Barrier(2)

    def at_once(act: Callable[[Claim], bool], old: Claim) -> bool:
        start.wait()
        return act(old)

    acts = [RACERS["replay"], RACERS[rival]]
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
            recorded = rival == "late record" and rivalled
            outcome = row(old.id)["outcome"]
            assert outcome == ("delivered" if recorded else None)
            wins += replayed
            change(old.id, "outcome = 'delivered'")

    # And it was a race
    assert 0 < wins < 100


def test_a_set_is_replayed_from_its_beginning_in_bounds() -> None:
    # Given timers that failed, due in another order than they were made
    timers = [given_up().id for _ in range(5)]
    for hours, timer_id in enumerate(timers, 1):
        change(timer_id, f"due_at = now() - interval '{hours} h'")
    oldest_first = timers[::-1]

    # When two are replayed, and two after them, Then the oldest were
    assert store.replay_failed(FAILED, limit=2) == oldest_first[:2]
    after = replace(FAILED, after=oldest_first[1])
    # One that failed again is not in the way
    store.record([report(claimed(oldest_first[0]), Outcome.FAILED)])
    assert store.replay_failed(after, limit=2) == oldest_first[2:4]
    assert store.replay_failed(FAILED, limit=9) == [
        oldest_first[0], oldest_first[4]
    ]


def test_a_filter_waits_for_nobody_and_an_id_is_told_the_outcome() -> None:
    # Given two timers, one of which is just being recorded as delivered
    locked, free = given_up().id, given_up().id
    with ThreadPoolExecutor(1) as threads, pool().connection() as other:
        with other.transaction():
            other.execute(
                "UPDATE timer SET outcome = 'delivered' WHERE id = %s",
                [locked],
            )
            # When both are replayed by filter, Then one is, at once
            by_filter = threads.submit(store.replay_failed, FAILED, limit=9)
            assert by_filter.result(timeout=10) == [free]

            # When it is replayed by its id
            by_id = threads.submit(replay, locked)
            eventually(lambda: waiting_for_locks() == 1)
        # Then what was recorded decides
        assert by_id.result(timeout=10) is False
    assert row(locked)["outcome"] == "delivered"


def waiting_for_locks() -> int:
    with pool().connection() as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted"
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_a_replayed_timer_is_queued_as_on_time_and_can_be_cancelled() -> None:
    timer_id = given_up().id
    assert not store.cancel(timer_id)
    assert replay(timer_id)
    assert store.promote(overdue=True, limit=9) == []
    (near,) = store.promote(overdue=False, limit=9)
    assert near.id == timer_id
    assert store.cancel(timer_id)

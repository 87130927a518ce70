"""The operator's hold: nothing is claimed, and all else goes on."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from apps.core.database import connection_arguments, pool
from apps.timers.scheduling.wakeups import Wakeups
from apps.timers.storage import (
    claiming,
    holding,
    queueing,
    recording,
    taking_over,
)
from apps.timers.storage.claim_records import (
    Claim,
    ClaimAnswer,
    ClaimRequest,
    Early,
    Held,
    Mark,
)
from apps.webhooks.retry import RetryPolicy
from tests.support.databases import waiting_for_locks
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
from tests.support.timers import value_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")


def ask(timer_id: UUID) -> ClaimAnswer:
    return claiming.claim([ClaimRequest(timer_id, uuid4())])[0]


def test_nothing_is_claimed_until_the_release() -> None:
    # Given timers that are due, by one to ten seconds, and queued
    ids = [new_timer(-seconds, queued=True) for seconds in range(1, 11)]
    requests = [ClaimRequest(each, uuid4()) for each in ids]
    holding.hold(None)

    # When they are claimed, Then each is held, and nothing else has changed
    before = [row(each) for each in ids]
    assert claiming.claim(requests) == [Held()] * 10
    unqueued = [{**each, "queued_at": None} for each in before]
    assert [row(each) for each in ids] == unqueued

    # Even if it is tried again
    assert claiming.claim(requests) == [Held()] * 10

    # When the hold is over, Then they are
    assert holding.release() is not None
    assert all(isinstance(each, Claim) for each in claiming.claim(requests))


def test_other_answers_stay_as_they_are() -> None:
    ended, early, due = new_timer(-1), new_timer(40), new_timer(-1)
    taken = claimed(new_timer(-1)).id
    change(ended, "outcome = 'failed'")
    change(early, "next_at = next_at, queued_at = now()")
    holding.hold(None)
    answers = claiming.claim(
        [ClaimRequest(each, uuid4()) for each in (ended, early, taken, due)]
    )
    assert isinstance(answers[1], Early)
    assert 35 < answers[1].wait <= 40
    assert [*answers[:1], *answers[2:]] == [None, None, Held()]
    assert row(early)["queued_at"]


def test_a_time_that_python_has_not_is_no_reason_to_end_a_timer() -> None:
    timer_id = new_timer(-1)
    change(timer_id, "next_at = '-infinity'")
    holding.hold(None)
    assert ask(timer_id) is None
    assert not value_of("SELECT outcome FROM timer WHERE id = %s", timer_id)


def test_calls_under_way_end() -> None:
    # Given claims, and then a hold
    token, url = uuid4(), "http://127.0.0.1:9/"
    one, other = claimed(new_timer(-1), token), claimed(new_timer(-1, url=url))
    assert holding.hold(None).under_way == 2

    # Then a claim whose answer was lost is granted again, and renewed
    assert claiming.claim([ClaimRequest(one.id, token)]) != [Held()]
    assert claiming.renew([ClaimRequest(one.id, token)]) == [True]

    # And calls are marked and recorded, or postponed
    claiming.mark_sent([Mark(one.id, token, database_clock())])
    assert recording.record([report(one)]) == [True]
    assert recording.postpone([postponement(other)]) == [True]
    assert row(one.id)["outcome"] == "delivered"
    assert ask(other.id) == Held()


def test_a_hold_waits_for_claims_that_began_before_it() -> None:
    # Given a claim that waits for a lock
    timer_id, other = new_timers(2, -1)
    with (
        psycopg.connect(**connection_arguments()) as locker,
        ThreadPoolExecutor(2) as threads,
    ):
        locker.execute("SELECT FROM timer WHERE id = %s FOR UPDATE",
                       [timer_id])
        claim = threads.submit(ask, timer_id)
        eventually(waiting_for_locks)

        # When calls are held, Then later claims see that at once
        begun = threads.submit(holding.hold, None)
        eventually(holding.current)
        assert ask(other) == Held()

        # But the hold is not done until that claim is
        assert not begun.done()
        locker.rollback()
        assert isinstance(claim.result(), Claim)
        assert begun.result().under_way == 1
        assert begun.result().writers == []


def test_who_writes_for_too_long_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holding, "_PATIENCE", 0.1)
    timer_id = new_timer(-1)
    with psycopg.connect(**connection_arguments()) as writer:
        writer.execute("UPDATE timer SET version = 2 WHERE id = %s",
                       [timer_id])
        assert holding.hold(None).writers == [writer.info.backend_pid]
    assert holding.hold(None).writers == []


def test_who_only_reads_is_not_waited_for() -> None:
    """As pg_dump does for hours; it locks the hold's table as well."""
    new_timer(-1)
    with psycopg.connect(**connection_arguments()) as reader:
        reader.execute("SELECT count(*) FROM timer, hold")
        assert holding.hold(None).writers == []
        assert holding.release() is not None


def test_a_second_hold_is_the_first_one() -> None:
    first = holding.hold("restored").hold
    assert holding.hold(None).hold == first
    again = holding.hold("restored twice").hold
    assert (again.since, again.reason) == (first.since, "restored twice")
    assert holding.current() == again
    assert holding.release() == again
    assert holding.current() is None
    assert holding.release() is None


def test_a_release_is_news_for_dispatchers_and_feeders() -> None:
    holding.hold(None)
    wakeups = Wakeups(threading.Event())
    wakeups.wait(10)
    holding.release()
    assert wakeups._connection is not None
    assert len(list(
        wakeups._connection.notifies(timeout=10, stop_after=1)
    )) == 1
    wakeups.close()


# --- dead workers ----------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over soon after a start of Postgres."""
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))


@pytest.mark.usefixtures("at_once")
def test_what_a_dead_worker_held_is_opened_and_not_claimed() -> None:
    timer_id = claimed(new_timer(-1)).id
    change(timer_id, "leased_until = now() - interval '1 s'")
    holding.hold(None)
    assert taking_over.take_over(limit=9) == [(timer_id, None)]
    assert ask(timer_id) == Held()
    holding.release()
    assert isinstance(ask(timer_id), Claim)


@pytest.mark.usefixtures("at_once")
def test_what_a_dead_worker_could_retry_keeps_its_time() -> None:
    """`reconciling` finds timers of a backup by that time."""
    policy = RetryPolicy(3, 1, 60, unanswered=False)
    once, retried = new_timer(-1), new_timer(-1, retry=policy)
    for timer_id in once, retried:
        claimed(timer_id)
        change(timer_id, "leased_until = now() - interval '1 s',"
                         " answered = 500")
    holding.hold(None)
    assert [each.claim.id for each in taking_over.answered(limit=9)] == [once]
    holding.release()
    assert len(taking_over.answered(limit=9)) == 2


def test_a_mark_of_a_queue_is_only_written_where_there_is_one() -> None:
    """A standalone worker meets a hold without any."""
    timer_id = new_timer(-1)
    xmin = "SELECT xmin::text FROM timer WHERE id = %s"
    with pool().connection() as connection:
        before = connection.execute(xmin, [timer_id]).fetchone()
        queueing.unqueue([timer_id])
        assert connection.execute(xmin, [timer_id]).fetchone() == before

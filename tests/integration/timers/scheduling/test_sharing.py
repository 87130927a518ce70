"""A backlog of one account does not keep another one's timers."""

import threading
import time
from uuid import UUID, uuid4

import pytest

from apps.broker.memory import MemoryBroker
from apps.broker.rabbitmq import LadderBroker
from apps.core.outages import TROUBLES
from apps.timers.scheduling import dispatcher, feeder, sharing
from apps.timers.scheduling.feeder import Feeder
from apps.timers.scheduling.publishing import message_for
from apps.timers.scheduling.sharing import Sharing
from apps.timers.storage import queueing
from tests.support.accounts import account
from tests.support.rows import row
from tests.support.timers import store_timers
from tests.support.waiting import eventually

URL = "http://127.0.0.1:9/"


def backlog(small: int = 3) -> tuple[set[str], set[str]]:
    """Store a large backlog, and behind it a small one of another account."""
    many = store_timers(URL, [-60] * 30, account("many"))
    return many, store_timers(URL, [-5] * small, account("few"))


def queued(timers: set[str]) -> int:
    return sum(row(UUID(each))["queued_at"] is not None for each in timers)


def wait_for_look(of: Sharing) -> threading.Thread:
    """Wait until a look that has begun has ended."""
    assert of._looking is not None
    of._looking.join(10)
    return of._looking


def found_by(sharing_: Sharing) -> list[str]:
    """Have it look; return the ids of what it found, in their order."""
    sharing_.look()
    wait_for_look(sharing_)
    return [str(each) for each in sharing_._found]


@pytest.mark.rabbitmq
def test_a_dispatcher_queues_small_backlogs_as_if_on_time(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a backlog of which no more may be in RabbitMQ
    monkeypatch.setattr(dispatcher, "_ENOUGH", 10)
    monkeypatch.setattr(dispatcher, "_BATCH", 10)
    monkeypatch.setattr(dispatcher, "_sharing", Sharing(promote=True))
    monkeypatch.setattr(sharing, "_REST", 100_000)
    many, few = backlog()
    done = dispatcher.run_once()
    assert (done.overdue, done.more, done.shares) == (10, True, True)
    eventually(lambda: ladder.depth("timers.overdue") == 10)

    # When there have been passes, the next of which are to begin soon
    wait_for_look(dispatcher._sharing)
    assert dispatcher._sharing.goes_on
    done = dispatcher.run_once()
    assert (done.overdue, done.more, done.shares) == (len(few), True, False)

    # Then another account's timers are queued as well, before that
    eventually(lambda: ladder.depth("timers") == len(few))
    assert queued(few) == len(few)
    assert queued(many) == ladder.depth("timers.overdue") == 10


@pytest.mark.rabbitmq
def test_a_dispatcher_queues_as_many_of_the_others_meanwhile(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_BATCH", 10)
    monkeypatch.setattr(dispatcher, "MOST", 3)
    shares = Sharing(promote=True)
    monkeypatch.setattr(dispatcher, "_sharing", shares)
    _, few = backlog()
    found_by(shares)
    done = dispatcher.run_once(lambda: True)
    assert (done.overdue, done.unfinished) == (3 + len(few), True)
    assert queued(few) == len(few)


def test_a_feeder_feeds_small_backlogs_as_if_on_time(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "_MOST", 10)
    monkeypatch.setattr(sharing, "_REST", 0)
    monkeypatch.setattr(Feeder, "_run", lambda self: None)
    _, few = backlog()
    still = Feeder(memory_broker)
    assert still.run_once() == 10
    eventually(lambda: still.run_once() == len(few))
    assert memory_broker.depth("timers") == len(few)
    assert memory_broker.depth("timers.overdue") == 10

    # When it looks again, Then nothing is fed twice
    assert still.run_once() == 0
    wait_for_look(still._sharing)
    assert len(still._sharing._found) == len(few)
    assert still.run_once() == 0


def test_a_feeder_reads_overdue_timers_again_when_it_has_few(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a feeder that holds as many as it may
    monkeypatch.setattr(feeder, "_MOST", 10)
    monkeypatch.setattr(Feeder, "_run", lambda self: None)
    store_timers(URL, [-60] * 30, account("many"))
    still = Feeder(memory_broker)
    assert still.run_once() == 10

    # When workers take some, Then it feeds more only after half of them
    consumer = memory_broker.consume("timers.overdue", prefetch=99, timeout=1)
    taken = [next(consumer) for _ in range(5)]
    monkeypatch.setattr(feeder, "_MOST", 11)
    assert still.run_once() == 0
    taken.append(next(consumer))
    assert None not in taken
    assert still.run_once() == 1


def test_without_a_backlog_nobody_looks(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Feeder, "_run", lambda self: None)
    store_timers(URL, [-60] * 30, account("many"))
    still = Feeder(memory_broker)
    assert still.run_once() == 30
    assert still._sharing._looking is None


def test_few_are_next_at_a_time(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given that three have been found
    monkeypatch.setattr(sharing, "MOST", 2)
    _, few = backlog()
    found = Sharing(promote=False)
    assert not found.goes_on
    assert set(found_by(found)) == few
    assert found.goes_on

    # Then two are next, and more only after a pause
    first = found.next()
    assert len(first) == 2
    assert not any(each.overdue for each in first)
    assert found.next() == []

    # Nor are they next while as many wait for workers
    monkeypatch.setattr(sharing, "PAUSE", 0)
    found._next_at = 0.0
    others = [message_for(uuid4()) for _ in range(2)]
    memory_broker.enqueue_many([(each, 0) for each in others])
    assert found.next() == []
    taken = next(memory_broker.consume("timers", prefetch=2, timeout=1))
    assert taken is not None
    second = found.next()
    assert {str(each.id) for each in first + second} == few
    assert not found.goes_on


def test_it_rests_after_a_look(db_pool: None) -> None:
    found = Sharing(promote=False)
    found.look()
    look = wait_for_look(found)
    assert found._rests_until > 0
    found._rests_until = time.monotonic() + 60
    found.look()
    assert found._looking is look


def test_the_smallest_backlog_is_first(db_pool: None) -> None:
    backlog()
    fewer = store_timers(URL, [-3] * 2, account("fewer"))
    (fewest,) = store_timers(URL, [-2], account("fewest"))
    found = found_by(Sharing(promote=False))
    assert found[0] == fewest
    assert set(found[1:3]) == fewer
    assert len(found) == 6


def test_large_backlogs_take_turns(
    db_pool: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two large backlogs, one of them older, and a small one
    monkeypatch.setattr(sharing, "MOST_FOUND", 10)
    monkeypatch.setattr(sharing, "_REST", 0)
    many, few = backlog()
    more = store_timers(URL, [-50] * 20, account("more"))

    # Then each look finds the small one and some of a large one
    found = Sharing(promote=False)
    looks = [found_by(found) for _ in range(3)]
    assert all(set(each[:3]) == few for each in looks)
    assert all(len(each) == 10 for each in looks)
    assert [set(each[3:]) <= more for each in looks] == [False, True, False]
    assert set(looks[0][3:]) <= many


def test_what_has_ended_since_the_look_is_left_out(db_pool: None) -> None:
    _, few = backlog()
    timers = [UUID(each) for each in few]
    first = queueing.overdue_among(timers[:1], promote=True)
    assert [each.id for each in first] == timers[:1]
    found = queueing.overdue_among(timers, promote=True)
    assert {each.id for each in found} == set(timers[1:])


def test_a_look_that_fails_ends_nothing(
    db_pool: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> dict[int, int]:
        raise ValueError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(queueing, "backlogs", fail)
        found = Sharing(promote=False)
        found.look()
        eventually(lambda: "no such thing" in str(TROUBLES.recent()))
    backlog()
    eventually(lambda: found_by(found))

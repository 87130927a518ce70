"""A backlog of one account does not keep another one's timers."""

import threading
import time
from uuid import UUID

import pytest

from apps.broker.memory import MemoryBroker
from apps.broker.rabbitmq import LadderBroker
from apps.core.outages import TROUBLES
from apps.timers.scheduling import dispatcher, feeder, sharing
from apps.timers.scheduling.feeder import Feeder
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


@pytest.mark.rabbitmq
def test_a_dispatcher_queues_small_backlogs_as_if_on_time(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a backlog of which no more may be in RabbitMQ
    monkeypatch.setattr(dispatcher, "_ENOUGH", 10)
    monkeypatch.setattr(dispatcher, "_BATCH", 10)
    monkeypatch.setattr(dispatcher, "_sharing", Sharing(promote=True))
    many, few = backlog()
    done = dispatcher.run_once()
    assert (done.overdue, done.more) == (10, True)
    eventually(lambda: ladder.depth("timers.overdue") == 10)

    # When there have been passes
    eventually(lambda: dispatcher.run_once().overdue == len(few))

    # Then another account's timers are queued as well, before that
    eventually(lambda: ladder.depth("timers") == len(few))
    assert queued(few) == len(few)
    assert queued(many) == ladder.depth("timers.overdue") == 10


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


def test_without_a_backlog_nobody_looks(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Feeder, "_run", lambda self: None)
    store_timers(URL, [-60] * 30, account("many"))
    still = Feeder(memory_broker)
    assert still.run_once() == 30
    assert still._sharing._looking is None


def test_few_are_taken_in_a_pass_and_it_rests_after_a_look(
    db_pool: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "MOST", 2)
    _, few = backlog()
    found = Sharing(promote=False)
    assert found.next() == []
    look = wait_for_look(found)
    first, second = found.next(), found.next()
    assert (len(first), len(second)) == (2, 1)
    assert {str(each.id) for each in first + second} == few
    assert not any(each.overdue for each in first)

    # Then it rests nine times as long as it looked
    assert found._rests_until > 0
    monkeypatch.setattr(found, "_rests_until", time.monotonic() + 60)
    assert found.next() == []
    assert found._looking is look


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
        assert found.next() == []
        eventually(lambda: "no such thing" in str(TROUBLES.recent()))
    backlog()
    eventually(lambda: found.next())

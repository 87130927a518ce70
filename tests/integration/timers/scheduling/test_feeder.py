"""Standalone: the feeder, and what wakes it."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from apps.broker.memory import MemoryBroker
from apps.core.database import pool
from apps.timers.scheduling import feeder
from apps.timers.scheduling.feeder import Feeder
from apps.timers.scheduling.wakeups import Wakeups
from apps.timers.storage import claiming, queueing, replaying, taking_over
from tests.support.accounts import OWNER
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rows import change, given_up, new_timer, row
from tests.support.waiting import eventually


@pytest.fixture
def still(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> Feeder:
    """Return a feeder whose thread does nothing by itself."""
    monkeypatch.setattr(Feeder, "_run", lambda self: None)
    return Feeder(memory_broker)


@pytest.fixture
def running(
    memory_broker: MemoryBroker,
) -> Iterator[Callable[[], Feeder]]:
    """Start feeders; they end with the test."""
    made: list[Feeder] = []

    def start() -> Feeder:
        made.append(Feeder(memory_broker))
        return made[-1]

    yield start
    for each in made:
        each.close()
        assert not each._thread.is_alive()


def take(broker: MemoryBroker, queue: str) -> list[str]:
    """Take what is due in a queue, and leave it undone."""
    consumer = broker.consume(queue, prefetch=1000, timeout=1)
    found = []
    while (message := next(consumer)) is not None:
        found.append(str(message.args[0]))
    return found


def test_it_feeds_what_is_near_and_leaves_it_unmarked(
    still: Feeder, memory_broker: MemoryBroker
) -> None:
    # Given timers that are overdue, soon due and later due
    overdue, soon, later = (new_timer(seconds) for seconds in (-5, 1.5, 30))

    # When the feeder does a pass
    assert still.run_once() == 2

    # Then the first two are in their queues, each by its own time
    assert take(memory_broker, "timers.overdue") == [str(overdue)]
    assert take(memory_broker, "timers") == []
    assert memory_broker.known(str(soon))
    assert not memory_broker.known(str(later))

    # And unmarked, so that who starts next finds them
    for timer_id in (overdue, soon, later):
        assert row(timer_id)["queued_at"] is None

    # And they are not fed again while they are waited for or worked on
    assert still.run_once() == 0


@pytest.mark.quiet
def test_it_wakes_a_timer_on_time(
    still: Feeder, memory_broker: MemoryBroker
) -> None:
    timer_id = new_timer(0.5)
    due = row(timer_id)["due_at"].timestamp()
    still.run_once()
    consumer = memory_broker.consume("timers", prefetch=10, timeout=5000)
    assert next(consumer) is not None
    assert -claiming.LEAD.total_seconds() <= time.time() - due < 0.5


def test_it_takes_over_lost_claims(
    still: Feeder, memory_broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taking_over, "SETTLE", claiming.LEAD * 0)
    timer_id = new_timer(-5)
    change(
        timer_id,
        "fired_at = now(), claim_token = gen_random_uuid(), claims = 1,"
        " leased_until = now() - interval '1 ms'",
    )
    assert still.run_once() == 1
    assert memory_broker.known(str(timer_id))


def test_news_wake_it_long_before_it_would_look(
    running: Callable[[], Feeder], memory_broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a feeder that looks every minute
    monkeypatch.setattr(feeder, "_POLL", 60)
    running()
    for _ in range(5):
        # When a near timer is stored, Then it is fed at once, be the
        # feeder just starting, listening or busy
        key = str(new_timer(1))
        eventually(partial(memory_broker.known, key), within=3)


def test_it_outlives_an_outage_and_an_error(
    running: Callable[[], Feeder], memory_broker: MemoryBroker,
    postgres: PostgresSwitch, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a feeder without Postgres
    monkeypatch.setattr(feeder, "_POLL", 0.1)
    timer_id = new_timer(-5)
    postgres.goes_away()
    running()
    eventually(lambda: "Postgres can't be reached" in caplog.text)

    # When that is followed by an error that nobody thought of
    def fail(**_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(queueing, "due", fail)
        postgres.comes_back()
        eventually(lambda: "feeding failed" in caplog.text)

    # Then it feeds all the same, when it can
    eventually(lambda: memory_broker.known(str(timer_id)))


# --- wake-ups --------------------------------------------------------------


@pytest.fixture
def wakeups(db_pool: None) -> Iterator[Wakeups]:
    """Return one that has begun to listen."""
    made = Wakeups(threading.Event())
    made.wait(10)
    assert made._connection is not None
    yield made
    made.close()


def seconds_waited(wakeups: Wakeups, seconds: float) -> float:
    began = time.monotonic()
    wakeups.wait(seconds)
    return time.monotonic() - began


@pytest.mark.quiet
def test_without_news_the_wait_is_as_long_as_asked(wakeups: Wakeups) -> None:
    for seconds in (0.0, 0.05, 0.7):
        waited = seconds_waited(wakeups, seconds)
        assert seconds <= waited < seconds + 0.5


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("seconds", "queued", "is_news"),
    [(0, False, True), (59, False, True), (0, True, False),
     (90, False, False)],
)
def test_a_near_timer_that_nobody_queued_is_news(
    wakeups: Wakeups, seconds: float, queued: bool, is_news: bool
) -> None:
    new_timer(seconds, queued=queued)
    assert (seconds_waited(wakeups, 0.5) < 0.4) == is_news


def test_notify_is_news(wakeups: Wakeups) -> None:
    queueing.notify()
    assert seconds_waited(wakeups, 10) < 5


def test_what_is_replayed_is_news(wakeups: Wakeups) -> None:
    # Given a timer whose creation was none
    replaying.replay(OWNER, [given_up(queued=True).id])
    assert seconds_waited(wakeups, 10) < 5


def test_an_outage_costs_no_more_than_the_wait(wakeups: Wakeups) -> None:
    # Given a connection that is lost
    terminate(wakeups)

    # When it is waited on, Then the wait is as long as it would be
    assert 0.3 <= seconds_waited(wakeups, 0.3) < 2

    # And there may have been news, when it listens again
    assert seconds_waited(wakeups, 10) < 5
    assert 0.3 <= seconds_waited(wakeups, 0.3) < 2
    queueing.notify()
    assert seconds_waited(wakeups, 10) < 5


def terminate(wakeups: Wakeups) -> None:
    """Have Postgres end the connection that is listened on."""
    assert wakeups._connection is not None
    pid = wakeups._connection.info.backend_pid
    with pool().connection() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def test_stopping_ends_the_wait(db_pool: None) -> None:
    stopping = threading.Event()
    wakeups = Wakeups(stopping)
    threading.Timer(0.1, stopping.set).start()
    assert seconds_waited(wakeups, 30) < 5
    wakeups.close()

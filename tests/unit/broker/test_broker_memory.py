"""The memory broker: order, precision, duplicates, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed, QueueNotFound

from apps.broker.ladder import HORIZON_MS
from apps.broker.memory import MemoryBroker
from apps.broker.middleware import LeaveUnacknowledged
from tests.support.messages import message
from tests.support.waiting import eventually


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    broker = MemoryBroker()
    broker.declare_queue("timers")
    broker.declare_queue("timers.overdue")
    yield broker
    broker.close()


def take(consumer: Consumer) -> MessageProxy:
    received = next(consumer)
    assert received is not None
    return received


def test_due_times_decide_the_order(broker: MemoryBroker) -> None:
    consumer = broker.consume("timers", prefetch=10, timeout=1000)
    for key, delay in (("c", 60), ("a", 20), ("b", 40), ("now", 0)):
        broker.enqueue(message(key), delay=delay)
    assert [take(consumer).args[0] for _ in range(4)] == [
        "now", "a", "b", "c",
    ]


def test_messages_of_one_due_time_keep_their_order(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = broker.consume("timers", prefetch=100, timeout=1000)
    now = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        for key in range(50):
            broker.enqueue(message(key))
    assert [take(consumer).args[0] for _ in range(50)] == list(range(50))


@pytest.mark.quiet
def test_a_consumer_wakes_on_time_and_never_early(
    broker: MemoryBroker,
) -> None:
    consumer = broker.consume("timers", prefetch=100, timeout=1000)
    due: dict[int, float] = {}
    for key in range(40):
        delay = 10 + 7 * key
        due[key] = time.monotonic() + delay / 1000
        broker.enqueue(message(key), delay=delay)
    late = []
    for _ in due:
        received = take(consumer)
        late.append(time.monotonic() - due[received.args[0]])
    assert min(late) >= 0
    # Polling would be late by much more; a busy machine by a little.
    assert sorted(late)[len(late) // 2] < 0.05


def test_an_earlier_message_wakes_a_waiting_consumer(
    broker: MemoryBroker,
) -> None:
    consumer = broker.consume("timers", prefetch=10, timeout=5000)
    broker.enqueue(message("later"), delay=4000)
    taken: list[tuple[object, float]] = []

    def wait() -> None:
        received = take(consumer)
        taken.append((received.args[0], time.monotonic()))

    thread = threading.Thread(target=wait)
    thread.start()
    began = time.monotonic()
    broker.enqueue(message("sooner"), delay=50)
    thread.join(3)
    assert [key for key, _ in taken] == ["sooner"]
    assert 0.05 <= taken[0][1] - began < 1


def test_a_key_is_held_once_until_it_is_done(broker: MemoryBroker) -> None:
    consumer = broker.consume("timers", prefetch=10, timeout=10)
    broker.enqueue(message("a"))
    broker.enqueue(message("a"))
    assert (broker.outstanding(), broker.depth("timers")) == (1, 1)

    received = take(consumer)
    broker.enqueue(message("a"))
    assert next(consumer) is None
    assert (broker.outstanding(), broker.depth("timers")) == (1, 0)
    assert broker.known("a")

    broker.enqueue(message("a", "timers.overdue"))
    assert broker.outstanding() == 2

    consumer.ack(received)
    broker.enqueue(message("a"))
    assert next(consumer) is not None


def test_done_messages_are_forgotten_however_they_end(
    broker: MemoryBroker,
) -> None:
    consumer = broker.consume("timers", prefetch=10, timeout=10)
    for settle in (consumer.ack, consumer.nack):
        broker.enqueue(message("a"))
        received = take(consumer)
        settle(received)
        assert not broker.known("a")
        assert broker.outstanding() == 0


def test_the_prefetch_is_kept(broker: MemoryBroker) -> None:
    consumer = broker.consume("timers", prefetch=2, timeout=10)
    for key in range(3):
        broker.enqueue(message(key))
    first, second, third = (next(consumer) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    consumer.ack(first)
    assert next(consumer) is not None


@pytest.mark.parametrize(("threads", "room"), [(1, 1), (8, 2), (64, 16)])
def test_overdue_messages_get_a_quarter_of_the_threads(
    broker: MemoryBroker, threads: int, room: int
) -> None:
    consumer = broker.consume("timers.overdue", 2 * threads, timeout=1)
    for key in range(room + 1):
        broker.enqueue(message(key, "timers.overdue"))
    taken = [next(consumer) for _ in range(room + 1)]
    assert taken[-1] is None
    assert None not in taken[:-1]


def test_outcomes_are_per_message(broker: MemoryBroker) -> None:
    outcomes = broker.enqueue_many(
        [
            (message("fine"), 0),
            (message("too late"), HORIZON_MS + 1),
            (message("nowhere", "unknown"), 0),
            (message("at the horizon"), HORIZON_MS),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None), ValueError, QueueNotFound, type(None),
    ]


def test_close_wakes_consumers_and_refuses_messages(
    broker: MemoryBroker,
) -> None:
    consumer = broker.consume("timers", prefetch=1, timeout=60_000)
    broker.enqueue(message("a"), delay=50_000)
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(next(consumer)))
    thread.start()
    broker.close()
    thread.join(3)
    assert taken == [None]
    assert broker.outstanding() == 0
    with pytest.raises(ConnectionClosed):
        broker.enqueue(message("b"))


def test_a_worker_runs_actors_over_it() -> None:
    broker = MemoryBroker()
    called: list[str] = []

    @dramatiq.actor(queue_name="timers", broker=broker)
    def fire(key: str) -> None:
        called.append(key)
        if key == "left":
            raise LeaveUnacknowledged
        if key == "broken":
            raise ZeroDivisionError

    worker = Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    try:
        fire.send("now")
        fire.send_with_options(args=("soon",), delay=30)
        fire.send("broken")
        fire.send("left")
        eventually(lambda: len(called) == 4 and broker.outstanding() == 0)
    finally:
        worker.stop()
        broker.close()
    assert sorted(called) == ["broken", "left", "now", "soon"]

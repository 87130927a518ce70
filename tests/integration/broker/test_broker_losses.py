"""Queues deleted, connections closed, messages that nobody can handle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.errors import ConnectionClosed
from pika import BlockingConnection

from apps.broker.connection import connection_parameters
from apps.broker.middleware import LeaveUnacknowledged
from apps.broker.topology import Declarer, Refusals
from tests.support.messages import message
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


def take(consumer: Any, count: int) -> list[Any]:
    taken: list[Any] = []
    deadline = time.monotonic() + 10
    while len(taken) < count:
        assert time.monotonic() < deadline, f"only {len(taken)} came"
        if (delivery := next(consumer)) is not None:
            taken.append(delivery)
    return taken


def test_a_message_whose_queue_was_deleted_is_published_again(
    broker: Any, url: str, management: Any, receive: Callable[..., Any]
) -> None:
    broker.enqueue(message("first"))
    management.delete_queue("timers")
    broker.enqueue_many([(message(key), 0) for key in range(10)])
    received = receive(url)
    eventually(lambda: received.keys == list(range(10)))


def test_a_message_that_no_queue_takes_is_not_taken_for_published(
    url: str, management: Any, connected: Callable[..., Any]
) -> None:
    # The binding that is declared again leads nowhere in such an exchange.
    management.call(
        "PUT",
        "/exchanges/{vhost}/delay.target",
        {"type": "direct", "durable": True},
    )
    broker = connected(url)

    def is_unroutable() -> bool:
        with pytest.raises(ConnectionClosed) as raised:
            broker.enqueue(message("lost"))
        return str(raised.value) == "No queue took the message"

    # The first attempts find out that the exchange is another than ours.
    eventually(is_unroutable)


def test_a_queue_that_two_clients_declare_at_once_takes_messages(
    broker: Any, url: str
) -> None:
    """RabbitMQ 4.0 confirms a binding before it is in force.

    It does so to whom comes second, and just after the first.
    """
    names = [f"timers.{number}" for number in range(300)]
    both = threading.Barrier(2)

    def declare() -> None:
        with closing(BlockingConnection(connection_parameters(url))) as link:
            channel = link.channel()
            for name in names:
                both.wait(10)
                Declarer(channel, "classic", Refusals()).target(name)

    with ThreadPoolExecutor(1) as pool:
        declaring = pool.submit(declare)
        for number, name in enumerate(names):
            both.wait(10)
            time.sleep(number % 10 / 1000)
            broker.enqueue(message("taken", queue=name))
        declaring.result()


def test_every_confirmed_message_comes_though_queues_are_deleted(
    broker: Any, url: str, management: Any, receive: Callable[..., Any]
) -> None:
    broker.enqueue_many([(message("before"), d) for d in (0, 1000, 1010)])
    for queue in ("timers", "delay.1s", "delay.10ms"):
        management.delete_queue(queue)

    for key in range(100):
        broker.enqueue(message(key), delay=(0, 1000, 1010)[key % 3])
    received = receive(url)
    eventually(lambda: set(range(100)) <= set(received.keys))


def test_a_missing_rung_is_declared_again_when_told(
    broker: Any, url: str, management: Any, receive: Callable[..., Any]
) -> None:
    received = receive(url)
    broker.enqueue(message("on time"), delay=500)
    eventually(lambda: received.keys == ["on time"])
    management.delete_queue("delay.500ms")

    broker.enqueue(message("early"), delay=500)
    eventually(lambda: received.keys[1:] == ["early"], within=0.4)
    broker.forget_topology()
    due = time.monotonic() + 0.5
    broker.enqueue(message("on time again"), delay=500)
    eventually(lambda: received.keys[2:] == ["on time again"])
    assert received.times[2] >= due


def test_a_consumer_declares_its_deleted_queue_again(
    broker: Any, url: str, management: Any, receive: Callable[..., Any]
) -> None:
    received = receive(url)
    broker.enqueue(message("before"))
    eventually(lambda: received.keys == ["before"])
    management.delete_queue("timers")
    eventually(lambda: "timers" in management.queues())
    broker.enqueue(message("after"))
    eventually(lambda: received.keys == ["before", "after"])


def test_purged_queues_go_on_working(
    broker: Any, url: str, management: Any, receive: Callable[..., Any]
) -> None:
    broker.enqueue_many([(message("lost"), 400)] * 5)
    for queue in management.queues():
        management.call("DELETE", f"/queues/{{vhost}}/{queue}/contents")
    received = receive(url)
    broker.enqueue(message("kept"), delay=500)
    eventually(lambda: "kept" in received.keys)
    assert received.keys == ["kept"]


def test_closed_connections_lose_nothing_and_take_no_foreign_acks(
    broker: Any, management: Any
) -> None:
    broker.enqueue_many([(message(key), 0) for key in range(20)])
    consumer = broker.consume("timers", prefetch=100, timeout=50)
    before = take(consumer, 20)
    eventually(lambda: len(management.connections()) == 2)
    management.close_connections()

    after = take(consumer, 20)
    assert [d.args[0] for d in after] == [d.args[0] for d in before]
    # Their tags are the same; an ack that reached the new channel would
    # take a message from the queue.
    assert [d.tag for d in after] == [d.tag for d in before]
    for delivery in before:
        consumer.ack(delivery)
    for delivery in after[:5]:
        consumer.ack(delivery)
    consumer.close()
    eventually(lambda: broker.depth("timers") == 15)


def test_a_worker_handles_each_message_though_connections_close(
    broker: Any, management: Any, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []
    begun = threading.Semaphore(0)
    gate = threading.Event()

    @dramatiq.actor(queue_name="timers", broker=broker)
    def fire(key: int) -> None:
        begun.release()
        gate.wait(10)
        called.append(key)

    broker.enqueue_many([(fire.message(key), 0) for key in range(100)])
    worker = Worker(broker, worker_threads=4, worker_timeout=50)
    worker.start()
    try:
        # Four messages are worked on and four wait in memory.
        assert all(begun.acquire(timeout=5) for _ in range(4))
        eventually(lambda: len(management.connections()) == 2)
        management.close_connections()
        eventually(lambda: "RabbitMQ is back" in caplog.messages)
        gate.set()
        eventually(lambda: set(called) == set(range(100)))
        broker.enqueue(fire.message(100), delay=100)
        eventually(lambda: called[-1] == 100)
        eventually(lambda: broker.depth("timers") == 0)
    finally:
        worker.stop()
    assert broker.depth("timers") == 0
    # What was fetched before the loss was delivered again, all of it.
    assert 104 <= len(called) <= 109
    said = [r.getMessage() for r in caplog.records if "RabbitMQ" in r.msg]
    assert sorted(said) == sorted(
        ["RabbitMQ is away, trying on", "RabbitMQ is back"] * 2
    )
    assert not [r for r in caplog.records if r.exc_info]


def test_messages_end_as_their_actors_do(broker: Any) -> None:
    called: list[str] = []

    @dramatiq.actor(queue_name="timers", broker=broker)
    def fire(key: str) -> None:
        called.append(key)
        if key == "broken":
            raise ZeroDivisionError
        if key == "left":
            raise LeaveUnacknowledged

    unknown = message("unknown").copy(actor_name="unknown")
    wanted = [message(k) for k in ("fine", "broken", "left")]
    broker.enqueue_many([(each, 0) for each in [*wanted, unknown]])
    worker = Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    try:
        eventually(lambda: sorted(called) == ["broken", "fine", "left"])
        eventually(lambda: broker.depth("timers.XQ") == 2)
        assert broker.depth("timers") == 0
    finally:
        worker.stop()
    eventually(lambda: broker.depth("timers") == 1)
    consumer = broker.consume("timers", prefetch=1, timeout=50)
    assert [d.args[0] for d in take(consumer, 1)] == ["left"]
    consumer.close()


def test_the_prefetch_of_overdue_messages_is_a_quarter_of_the_threads(
    broker: Any
) -> None:
    queue = "timers.overdue"
    broker.enqueue_many([(message(key, queue), 0) for key in range(30)])
    consumer = broker.consume(queue, prefetch=2 * 16, timeout=100)
    assert len(take(consumer, 4)) == 4
    assert next(consumer) is None
    consumer.close()

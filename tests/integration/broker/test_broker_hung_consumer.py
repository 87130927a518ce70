"""A worker whose consumer hangs is unwell, though its threads only wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq import Worker
from pytest_django import Settings

from apps.broker import consumer
from apps.core.database import pool
from apps.core.outages import TROUBLES
from apps.monitoring import heartbeat, processes
from apps.timers.firing import claims, worker
from apps.timers.firing.worker import WorkerLifecycle
from tests.support.ports import free_port
from tests.support.rabbitmq import Management
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

HANGS = "it takes no messages from timers: the thread that consumes it hangs"


@pytest.fixture
def vhost(shared_vhost: tuple[str, Management]) -> tuple[str, Management]:
    """Return a virtual host that other tests have used."""
    return shared_vhost


class Consuming:
    """A worker of this process, and the connections of its consumers."""

    def __init__(self, broker: Any) -> None:
        self.connections: list[pika.BlockingConnection] = []
        self.called: list[int] = []
        self.broker = broker
        self.lifecycle = WorkerLifecycle()
        broker.add_middleware(self.lifecycle)

        @dramatiq.actor(queue_name="timers", broker=broker)
        def fire(key: int) -> None:
            self.called.append(key)

        self.fire = fire
        self.worker = Worker(broker, worker_threads=2, worker_timeout=20)

    def start(self) -> None:
        self.worker.start()

    def send(self, key: int) -> None:
        self.broker.enqueue(self.fire.message(key))


@pytest.fixture
def consuming(
    broker: Any,
    db_pool: None,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Consuming]:
    """Return a worker with RabbitMQ that is unwell after 0.5 s."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    monkeypatch.setattr(heartbeat, "STALE_AFTER", 0.5)
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker, "close_pool", lambda: None)
    TROUBLES.clear()
    made = Consuming(broker)

    def connect(*args: Any) -> pika.BlockingConnection:
        made.connections.append(pika.BlockingConnection(*args))
        return made.connections[-1]

    monkeypatch.setattr(consumer, "BlockingConnection", connect)
    made.start()
    yield made
    made.worker.stop()
    claims.stopping.clear()


def illness() -> str:
    """Return what the health command says, nothing if all is well."""
    return heartbeat.illness("worker") or ""


def troubles() -> list[str]:
    """Return what any web process knows of it."""
    with pool().connection() as connection:
        return processes.troubles(connection, ["worker"], known=None)


def test_a_consumer_that_hangs_is_told_though_nothing_waits_in_memory(
    consuming: Consuming,
) -> None:
    # Given a worker that gets its messages
    consuming.send(1)
    eventually(lambda: consuming.called == [1])
    eventually(lambda: not illness())

    # When the thread of its connection hangs, and messages wait in RabbitMQ
    (connection,) = consuming.connections
    gate = threading.Event()

    def hang() -> None:
        gate.wait(30)

    connection.add_callback_threadsafe(hang)
    consuming.send(2)

    # Then it is unwell and says why, here and to web processes
    eventually(lambda: illness().endswith(HANGS))
    eventually(lambda: any(HANGS in text for text in troubles()))
    assert consuming.worker.work_queue.empty()
    assert consuming.called == [1]

    # When the thread goes on, Then it is well again
    gate.set()
    eventually(lambda: consuming.called == [1, 2])
    eventually(lambda: not illness())
    eventually(lambda: not troubles())


def test_a_consumer_looks_though_there_is_nothing_or_no_rabbitmq(
    broker: Any, make_broker: Callable[..., Any]
) -> None:
    absent = make_broker(f"amqp://u:p@127.0.0.1:{free_port()}/")
    for each in (broker, absent):
        looking = each.consume("timers", timeout=10)
        assert "timers" not in each.looked_at
        for _ in range(2):
            before = time.monotonic()
            assert next(looking) is None
            assert each.looked_at["timers"] >= before
        looking.close()


def test_a_consumer_that_fails_each_time_is_told(
    consuming: Consuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a fault that nobody expects
    def fail(*_: Any) -> Any:
        raise LookupError("no such thing")

    eventually(lambda: not illness())
    monkeypatch.setattr(consumer.LadderConsumer, "_take", fail)
    eventually(lambda: illness().endswith(HANGS))

"""Brokers and consumers for a virtual host of the test's own."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from apps.broker.rabbitmq import LadderBroker
from tests.support.rabbitmq import Management, Proxy
from tests.support.waiting import eventually


@pytest.fixture
def management(vhost: tuple[str, Management]) -> Management:
    """Return the management API of the test's virtual host."""
    return vhost[1]


@pytest.fixture
def url(vhost: tuple[str, Management]) -> str:
    """Return the virtual host's AMQP URL."""
    return vhost[0]


@pytest.fixture
def make_broker() -> Iterator[Callable[..., LadderBroker]]:
    made: list[LadderBroker] = []

    def make(url: str, queue_type: str = "classic") -> LadderBroker:
        made.append(LadderBroker(url, queue_type=queue_type))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def connected(
    make_broker: Callable[..., LadderBroker],
) -> Callable[[str], LadderBroker]:
    """Make brokers that have reached RabbitMQ.

    On a busy machine it may take too long for a first message.
    """

    def make(url: str) -> LadderBroker:
        broker = make_broker(url)
        eventually(lambda: broker.depth("timers") is not None)
        return broker

    return make


@pytest.fixture
def broker(
    url: str, connected: Callable[[str], LadderBroker]
) -> LadderBroker:
    return connected(url)


@pytest.fixture
def make_proxy(url: str) -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(context: ssl.SSLContext | None = None) -> Proxy:
        made.append(Proxy(url, context))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def proxy(make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy()


@dataclass
class Received:
    """What a consumer got, and when."""

    keys: list[Any]
    times: list[float]


@pytest.fixture
def receive(
    make_broker: Callable[..., LadderBroker],
) -> Iterator[Callable[..., Received]]:
    """Start a consumer of ``timers`` that acknowledges everything."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start(url: str, queue_type: str = "classic") -> Received:
        received = Received([], [])
        broker = make_broker(url, queue_type)
        consumer = broker.consume("timers", prefetch=100, timeout=50)

        def run() -> None:
            for delivery in consumer:
                if delivery is not None:
                    received.times.append(time.monotonic())
                    received.keys.append(delivery.args[0])
                    consumer.ack(delivery)
                if stopping.is_set():
                    break
            consumer.close()

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return received

    yield start
    stopping.set()
    for thread in threads:
        thread.join(5)

"""One publishing connection, and what becomes of it."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
from dramatiq.errors import ConnectionClosed

from tests.support.messages import message
from tests.support.rabbitmq import Management
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def vhost(shared_vhost: tuple[str, Management]) -> tuple[str, Management]:
    """Return a virtual host that other tests have used."""
    return shared_vhost


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_many_threads_share_one_connection(
    proxy: Any, connected: Callable[..., Any]
) -> None:
    broker = connected(proxy.url)
    with ThreadPoolExecutor(20) as pool:
        done = pool.map(
            lambda key: broker.enqueue(message(key)), range(1000)
        )
        assert len(list(done)) == 1000
    eventually(lambda: broker.depth("timers") == 1000)
    assert proxy.accepted == 1


@pytest.mark.quiet
def test_a_black_hole_holds_nobody_and_heals(
    proxy: Any, connected: Callable[..., Any]
) -> None:
    broker = connected(proxy.url)
    broker.enqueue(message("before"))
    assert broker.is_connected()

    proxy.black_hole()
    with at_most(3), pytest.raises(ConnectionClosed):
        broker.enqueue(message("lost"))
    assert not broker.is_connected()
    # Known to be away by now, so nobody waits.
    with at_most(0.3):
        outcomes = broker.enqueue_many([(message(k), 0) for k in range(50)])
        assert all(isinstance(o, ConnectionClosed) for o in outcomes)
        assert broker.depth("timers") is None

    proxy.restore()
    eventually(broker.is_connected)
    broker.enqueue(message("after"))


@pytest.mark.quiet
def test_a_black_hole_from_the_beginning_holds_nobody(
    proxy: Any, make_broker: Callable[..., Any]
) -> None:
    proxy.black_hole()
    broker = make_broker(proxy.url)
    with at_most(0.3):
        assert not broker.is_connected()
    with at_most(3), pytest.raises(ConnectionClosed):
        broker.enqueue(message("lost"))
    with at_most(3):
        assert broker.depth("timers") is None
    consumer = broker.consume("timers", prefetch=1, timeout=50)
    with at_most(3):
        assert next(consumer) is None
    with at_most(3):
        consumer.close()

    proxy.restore()
    eventually(broker.is_connected)
    broker.enqueue(message("after"))


@pytest.mark.quiet
def test_a_black_hole_does_not_keep_a_consumer_or_broker_from_closing(
    proxy: Any, connected: Callable[..., Any]
) -> None:
    broker = connected(proxy.url)
    broker.enqueue(message("a"))
    consumer = broker.consume("timers", prefetch=1, timeout=1000)
    delivery = next(consumer)
    assert delivery is not None
    proxy.black_hole()
    consumer.ack(delivery)
    with at_most(3):
        consumer.close()
    with at_most(3.5):
        broker.close()


@pytest.mark.quiet
def test_a_depth_that_nobody_answers_is_unknown(
    proxy: Any, connected: Callable[..., Any]
) -> None:
    broker = connected(proxy.url)
    assert broker.depth("timers") == 0
    proxy.black_hole()
    with at_most(3):
        assert broker.depth("timers") is None
    with at_most(0.3):
        assert broker.depth("timers") is None


@pytest.mark.quiet
def test_an_alarm_fails_publishers_at_once_and_keeps_the_connection(
    proxy: Any, connected: Callable[..., Any]
) -> None:
    broker = connected(proxy.url)
    broker.enqueue(message("before"))
    alarm = pika.spec.Connection.Blocked("low on memory")
    proxy.send_to_clients(pika.frame.Method(0, alarm).marshal())
    eventually(lambda: not broker.is_connected())
    with at_most(0.3), pytest.raises(ConnectionClosed):
        broker.enqueue(message("lost"))

    over = pika.spec.Connection.Unblocked()
    proxy.send_to_clients(pika.frame.Method(0, over).marshal())
    eventually(broker.is_connected)
    broker.enqueue(message("after"))
    assert proxy.accepted == 1


@pytest.mark.quiet
def test_an_alarm_fails_what_is_unconfirmed(
    proxy: Any, connected: Callable[..., Any]
) -> None:
    broker = connected(proxy.url)
    broker.enqueue(message("before"))
    proxy.black_hole()
    outcomes: list[Any] = []
    publishing = threading.Thread(
        target=lambda: outcomes.extend(
            broker.enqueue_many([(message("pending"), 0)])
        )
    )
    publishing.start()
    alarm = pika.spec.Connection.Blocked("low on disk")
    with at_most(1):
        proxy.send_to_clients(pika.frame.Method(0, alarm).marshal())
        publishing.join(5)
    assert isinstance(outcomes[0], ConnectionClosed)


@pytest.mark.quiet
def test_without_rabbitmq_callers_fail_fast(
    make_broker: Callable[..., Any]
) -> None:
    broker = make_broker("amqp://guest:guest@127.0.0.1:1/")
    with at_most(1):
        for _ in range(20):
            with pytest.raises(ConnectionClosed):
                broker.enqueue(message("lost"))
        assert broker.depth("timers") is None


def test_close_sends_what_is_under_way_and_a_later_call_reconnects(
    broker: Any
) -> None:
    broker.enqueue(message("first"))
    outcomes: list[Any] = []
    publishing = threading.Thread(
        target=lambda: outcomes.extend(
            broker.enqueue_many([(message(k), 0) for k in range(400)])
        )
    )
    publishing.start()
    publishing.join(0.02)
    broker.close()
    publishing.join(5)
    confirmed = outcomes.count(None)
    eventually(lambda: broker.depth("timers") >= 1 + confirmed)


FORK = """
import os, sys
from apps.broker.rabbitmq import LadderBroker
from dramatiq import Message
broker = LadderBroker(sys.argv[1])
def send(key):
    broker.enqueue(Message(queue_name="timers", actor_name="fire",
                           args=(key,), kwargs={}, options={}))
send("parent")
if child := os.fork():
    _, status = os.waitpid(child, 0)
    send("parent again")
    sys.exit(os.waitstatus_to_exitcode(status))
send("child")
os._exit(0)
"""


def test_a_forked_child_has_a_connection_of_its_own(
    proxy: Any, broker: Any
) -> None:
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, proxy.url],
        check=True,
        timeout=30,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    eventually(lambda: broker.depth("timers") == 3)
    assert proxy.accepted == 2


def test_tls_is_verified(
    tmp_path: Path,
    make_proxy: Callable[..., Any],
    make_broker: Callable[..., Any],
) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
            "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
            "-out", str(certificate), "-keyout", str(key),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    by_address = make_proxy(context).url.replace("amqp://", "amqps://")
    by_name = by_address.replace("@127.0.0.1", "@localhost")
    trusted = f"?cacertfile={certificate}"
    make_broker(by_name + trusted).enqueue(message("trusted"))
    for wrong in (by_name, by_address + trusted):
        with pytest.raises(ConnectionClosed):
            make_broker(wrong).enqueue(message("refused"))

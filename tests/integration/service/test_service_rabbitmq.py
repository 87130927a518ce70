"""The private RabbitMQ: what it keeps, and where it listens.

It is killed and starved, under a stack that goes on.
"""

import contextlib
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pika
import pytest

from deploy.local.needs import rabbitmq_server
from tests.support.processes import listening
from tests.support.quiet import Quiet
from tests.support.receiver import Receiver
from tests.support.servers import OwnRabbitMQ
from tests.support.service import Service
from tests.support.timers import each_called_once, show_lateness
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.skipif(
        rabbitmq_server() is None, reason="needs rabbitmq-server itself"
    ),
]


PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture(scope="module")
def own_rabbitmq(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OwnRabbitMQ]:
    """Run a RabbitMQ whose first two starts were killed.

    One was before it was ready, the other just after: neither may keep it
    from starting.
    """
    server = OwnRabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    with contextlib.closing(server):
        server.launch()
        schema = node(server) / "schema.DAT"
        eventually(lambda: schema.exists() or server.is_ready(), within=30)
        server.kill()
        server.start()
        server.kill()
        server.start()
        yield server


def node(server: OwnRabbitMQ) -> Path:
    """Return the directory of what RabbitMQ keeps."""
    return server.directory / "rabbitmq" / "node" / "timer@localhost"


@pytest.fixture(scope="module")
def module_stack(
    django_db_setup: None,
    own_rabbitmq: OwnRabbitMQ,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run a stack over the RabbitMQ that is to have outages."""
    service = Service(tmp_path_factory.mktemp("stack"), own_rabbitmq.url)
    service.start_all()
    yield service
    service.kill()


def test_it_is_on_loopback_alone_and_keeps_its_secrets(
    own_rabbitmq: OwnRabbitMQ,
) -> None:
    pids = [*own_rabbitmq.pids(), *own_rabbitmq.epmd.pids()]
    addresses = [address.ip for pid in pids for address in listening(pid)]
    assert len(addresses) >= 4
    assert set(addresses) <= {"127.0.0.1", "::1"}
    for name in ("password", "definitions.json", ".erlang.cookie"):
        mode = (own_rabbitmq.directory / "rabbitmq" / name).stat().st_mode
        assert stat.S_IMODE(mode) & 0o077 == 0, name


def has_written(server: OwnRabbitMQ, name: bytes) -> bool:
    """Tell whether a file of Mnesia's, or Khepri's, has a queue's name."""
    files = [
        *node(server).glob("*.D*"), node(server) / "LATEST.LOG",
        *node(server).rglob("*.wal"),
    ]
    return any(
        name in file.read_bytes() for file in files if file.exists()
    )


@pytest.fixture
def kept(own_rabbitmq: OwnRabbitMQ) -> str:
    """Return a queue with a message that RabbitMQ has confirmed.

    What it knows of queues it writes a moment after it has answered.
    """
    with pika.BlockingConnection(
        pika.URLParameters(own_rabbitmq.url)
    ) as client:
        channel = client.channel()
        channel.queue_declare("kept", durable=True)
        eventually(lambda: has_written(own_rabbitmq, b"kept"), within=30)
        channel.confirm_delivery()
        channel.basic_publish("", "kept", b"7", PERSISTENT)
    return "kept"


def test_rabbitmq_is_killed_in_a_burst(
    stack: Service, own_rabbitmq: OwnRabbitMQ, receiver: Receiver, kept: str
) -> None:
    quiet = Quiet(stack, most=15)
    # Given a burst that is half over, and timers that are due later
    after = stack.set_timers(20, 15, receiver.url())
    timers = stack.set_timers(100, 2, receiver.url())
    eventually(lambda: len(receiver.calls) > 20)

    # When it is killed, and timers are set all the same
    with ThreadPoolExecutor(1) as pool:
        more = pool.submit(stack.set_timers, 100, 1, receiver.url())
        own_rabbitmq.kill()
        timers |= more.result()
    timers |= stack.set_timers_fast(20, 1, receiver.url())
    away = {"status": "degraded", "postgres": "ok", "rabbitmq": "away"}
    eventually(lambda: stack.request("GET", "/readyz") == (200, away))
    own_rabbitmq.start()
    back = time.time()

    # Then it costs lateness only, and only to those that were due
    each_called_once(receiver, timers, within=20)
    show_lateness("RabbitMQ killed in a burst", receiver, timers)
    each_called_once(receiver, after, within=20)
    # None waited its whole time again. On a busy machine a start takes until
    # after their time.
    assert max(
        min(call.late, call.arrived - back)
        for call in receiver.calls if call.timer in after
    ) < 5
    quiet.check()

    # And what it has confirmed is there
    with pika.BlockingConnection(
        pika.URLParameters(own_rabbitmq.url)
    ) as client:
        _, _, body = client.channel().basic_get(kept, auto_ack=True)
    assert body == b"7"


def test_rabbitmq_has_a_memory_alarm(
    stack: Service, own_rabbitmq: OwnRabbitMQ, receiver: Receiver
) -> None:
    quiet = Quiet(stack, most=10)
    own_rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
    timers = stack.set_timers_fast(50, 1, receiver.url())

    # RabbitMQ tells a connection of the alarm when it publishes next.
    def is_told() -> bool:
        timers.update(stack.set_timers_fast(1, 1, receiver.url()))
        return "memory or disk alarm" in stack.log()

    eventually(is_told, every=0.1)
    timers |= stack.set_timers_fast(50, 1, receiver.url())

    own_rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    each_called_once(receiver, timers, within=15)
    quiet.check()

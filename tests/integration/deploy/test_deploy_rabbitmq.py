"""The private RabbitMQ: what it keeps, and where it listens."""

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import psutil  # type: ignore[import-untyped]
import pytest

from deploy.local.needs import rabbitmq_server
from deploy.local.output import to_terminal
from deploy.local.processes import Child
from deploy.local.rabbitmq import RabbitMQ

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.skipif(
        rabbitmq_server() is None, reason="no rabbitmq-server is installed"
    ),
]
WaitUntil = Callable[[Callable[[], object], float], None]
PERSISTENT = pika.BasicProperties(delivery_mode=2)


class Broker:
    """A broker that a test starts, kills and starts again."""

    def __init__(self, directory: Path, wait_until: WaitUntil) -> None:
        self.children: list[Child] = []
        self._directory = directory
        self._wait_until = wait_until

    def launch(self) -> RabbitMQ:
        rabbitmq = RabbitMQ(self._directory, os.environ)
        output = to_terminal(as_json=False)
        self.children = [
            Child(service, output) for service in rabbitmq.services()
        ]
        return rabbitmq

    def start(self) -> RabbitMQ:
        rabbitmq = self.launch()
        self._wait_until(rabbitmq.is_ready, 60)
        return rabbitmq

    def processes(self) -> list[psutil.Process]:
        found = []
        for child in self.children:
            head = psutil.Process(child.pid)
            found += [head, *head.children(recursive=True)]
        return found

    def listening(self) -> list[str]:
        """Return the addresses that its processes listen on."""
        found = []
        for process in self.processes():
            # Its helpers come and go.
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [
                    connection.laddr.ip
                    for connection in process.net_connections()
                    if connection.status == psutil.CONN_LISTEN
                ]
        return found

    def kill(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for child in self.children:
            child.finish()


@pytest.fixture
def broker(tmp_path: Path, wait_until: WaitUntil) -> Iterator[Broker]:
    running = Broker(tmp_path, wait_until)
    yield running
    for child in running.children:
        if not child.has_ended():
            os.killpg(child.pid, signal.SIGKILL)
        child.finish()


def has_written(directory: Path, name: bytes) -> bool:
    """Tell whether a file of Mnesia's, or Khepri's, has a queue's name."""
    files = [
        *directory.glob("*.D*"), directory / "LATEST.LOG",
        *directory.rglob("*.wal"),
    ]
    return any(
        name in file.read_bytes() for file in files if file.exists()
    )


def test_it_outlives_kills_and_is_on_loopback_alone(
    broker: Broker, tmp_path: Path, wait_until: WaitUntil
) -> None:
    # Given a first start that is killed before the broker is ready
    first = broker.launch()
    schema = tmp_path / "rabbitmq" / "node" / "timer@localhost" / "schema.DAT"
    wait_until(lambda: schema.exists() or first.is_ready(), 30)
    broker.kill()

    # And one that is killed just after
    broker.start()
    broker.kill()

    # Then the next start works. What the broker knows of queues it writes a
    # moment after it has answered.
    second = broker.start()
    with pika.BlockingConnection(pika.URLParameters(second.url)) as client:
        channel = client.channel()
        channel.queue_declare("kept", durable=True)
        wait_until(lambda: has_written(schema.parent, b"kept"), 30)

        # And a message that it has confirmed outlives a kill
        channel.confirm_delivery()
        channel.basic_publish("", "kept", b"7", PERSISTENT)
    listening = broker.listening()
    assert len(listening) >= 4
    assert set(listening) <= {"127.0.0.1", "::1"}
    broker.kill()

    third = broker.start()
    with pika.BlockingConnection(pika.URLParameters(third.url)) as client:
        _, _, body = client.channel().basic_get("kept", auto_ack=True)
    assert body == b"7"
    for name in ("password", "definitions.json", ".erlang.cookie"):
        mode = (tmp_path / "rabbitmq" / name).stat().st_mode
        assert stat.S_IMODE(mode) & 0o077 == 0, name

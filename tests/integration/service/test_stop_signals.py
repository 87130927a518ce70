"""TERM to every process of a group, again and again, is one TERM."""

import os
import signal
import socket
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]
import pytest

from deploy import commands
from tests.support import slow_app
from tests.support.receiver import Receiver
from tests.support.service import Process, Service
from tests.support.timers import store_timers, value_of
from tests.support.waiting import eventually

# The test database is made only for tests that say that they need it.
pytestmark = pytest.mark.django_db(transaction=True)


def stop_everyone(process: Process) -> None:
    """TERM the group and, as systemd does, each process of its own."""
    pids = [process.pid]
    pids += [c.pid for c in psutil.Process(process.pid).children(True)]
    for _ in range(3):
        process.send_all(signal.SIGTERM)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        # Signals that come at once count as one.
        time.sleep(0.2)


def test_a_worker_ends_its_calls(
    make_service: Callable[..., Service], receiver: Receiver
) -> None:
    # Given 30 calls under way
    receiver.delay = 2.0
    timers = store_timers(receiver.url(), [0.0] * 30)
    worker = make_service().start_worker(threads=64)
    eventually(lambda: len(receiver.calls) == 30)

    # When every process is told to stop, several times
    stop_everyone(worker)

    # Then the calls end, and are recorded
    assert worker.stop() == 0
    delivered = "SELECT count(*) FROM timer WHERE outcome = 'delivered'"
    assert value_of(delivered) == len(timers)


def test_web_ends_its_requests(make_service: Callable[..., Service]) -> None:
    # Given a request under way
    service = make_service()
    command = commands.web("127.0.0.1", service.port, 1)[1:-1]
    web = service.start(
        "web", *command, "--factory", f"{slow_app.__name__}:make"
    )
    address = ("127.0.0.1", service.port)
    eventually(lambda: not _refused(address), within=30)
    with socket.create_connection(address, 5) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: "slow request" in web.output())

        # When every process is told to stop, several times
        stop_everyone(web)

        # Then it is answered
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert web.stop() == 0


def test_a_dispatcher_ends_in_good_order(
    make_service: Callable[..., Service], shared_vhost: tuple[str, object]
) -> None:
    service = make_service(shared_vhost[0])
    dispatcher = service.start_dispatcher()
    for _ in range(5):
        dispatcher.send_all(signal.SIGTERM)
    assert dispatcher.stop() == 0
    assert "dispatcher stopped" in dispatcher.output()


def _refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 5).close()
    except OSError:
        return True
    return False

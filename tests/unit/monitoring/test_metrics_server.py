"""The port on which a worker or a dispatcher answers."""

import socket
import urllib.request
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

import pytest
from pytest_django import Settings

from apps.monitoring.metrics import process
from apps.monitoring.metrics.numbers import Numbers
from tests.support.loopback import needs_ipv6
from tests.support.ports import free_port
from tests.support.waiting import eventually

Listen = Callable[..., int]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Listen on an address; return the port."""
    made: list[WSGIServer] = []

    def run(host: str = "127.0.0.1") -> int:
        server = process.listen(host, free_port())
        assert server is not None
        made.append(server)
        return server.server_port

    yield run
    for server in made:
        server.shutdown()
        server.server_close()


def read(host: str, port: int) -> str:
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as found:
        return str(found.read().decode())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)]
)
def test_it_answers_with_the_numbers(host: str, listen: Listen) -> None:
    port = listen(host)

    text = read(f"[{host}]" if ":" in host else host, port)

    assert "\ntimers_created_total " in text
    # Postgres's numbers are told by web processes alone.
    assert "timers_sleeping" not in text


def test_a_client_that_says_nothing_is_left_in_the_end(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < process._Handler.timeout <= 5
    monkeypatch.setattr(process._Handler, "timeout", 0.05)
    port = listen()

    with socket.create_connection(("127.0.0.1", port)) as silent:
        text = read("127.0.0.1", port)
        assert silent.recv(1) == b""

    assert "timers_created_total" in text


def test_a_port_that_is_taken_is_no_reason_to_stop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert process.listen("127.0.0.1", port) is None


def test_without_a_port_a_process_takes_no_part(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(
        process, "Part", lambda *_, port: taken.append(port)
    )
    settings.METRICS_PORT = 0
    process.start("worker")
    assert taken == []

    settings.METRICS_PORT = 9100
    process.start("worker")
    assert taken == [9100]


def test_a_failing_sampler_stops_nothing(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process whose numbers can't be shared, and a sampler that fails
    monkeypatch.setattr(process, "INTERVAL", 0.01)
    monkeypatch.setattr(process, "NUMBERS", Numbers())
    monkeypatch.setenv("DATA_DIR", "/dev/null")
    calls: list[None] = []

    def sampler() -> None:
        calls.append(None)
        raise RuntimeError("no gauge")

    # Then it samples on
    part = process.Part("web", sampler, port=0)
    eventually(lambda: len(calls) > 2)
    part._ended.set()

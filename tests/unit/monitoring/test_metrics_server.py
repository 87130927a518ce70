"""The port on which a worker or a dispatcher answers."""

import socket
import urllib.request
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

import pytest

from apps.monitoring.metrics import process
from tests.support.ports import free_port

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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_answers_with_the_numbers(host: str, listen: Listen) -> None:
    port = listen(host)

    text = read(f"[{host}]" if ":" in host else host, port)

    assert "\ntimers_created_total 0" in text
    # Postgres's numbers are told by web processes alone.
    assert "timers_sleeping" not in text


def test_a_client_that_says_nothing_is_left_in_the_end(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
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

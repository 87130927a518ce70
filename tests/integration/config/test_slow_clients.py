"""Clients that send nothing, or half a body, against the real server."""

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from config.slow_clients import PROGRESS
from deploy import commands
from tests.support import slow_app
from tests.support.service import Service
from tests.support.waiting import PATIENCE, eventually

# The test database is made only for tests that say that they need it.
pytestmark = pytest.mark.usefixtures("transactional_db")

GOOD = json.dumps(
    {"hours": 0, "minutes": 0, "seconds": 60, "url": "https://example.com/"}
).encode()
HALF = (
    b"POST /timer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
)


@pytest.fixture(scope="module")
def web(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run web by the command that operators run it by."""
    yield from _serve(tmp_path_factory)


@pytest.fixture(scope="module")
def echo(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run a small application behind the front, which waits for less long."""
    yield from _serve(
        tmp_path_factory, "--factory", f"{slow_app.__name__}:make"
    )


def _serve(
    tmp_path_factory: pytest.TempPathFactory, *target: str
) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("web"), "")
    command = commands.web("127.0.0.1", service.port, 1)[1:]
    service.start("web", *command[:-1], *(target or command[-1:]))
    eventually(lambda: _answers(service), within=30)
    yield service
    service.kill()


def _answers(service: Service) -> bool:
    with contextlib.suppress(OSError):
        return ask(service, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
                   ).startswith(b"HTTP/1.1 200")
    return False


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), 5)


def ask(service: Service, request: bytes) -> bytes:
    """Send a request; return what comes first of the answer."""
    with connect(service) as connection:
        connection.sendall(request)
        return connection.recv(65_536)


def read_to_end(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces)


def chunked(*pieces: bytes) -> bytes:
    head = (
        b"POST /timer HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)
    return head + chunks + b"0\r\n\r\n"


@contextlib.contextmanager
def many(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """Open so many connections, with descriptors enough for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 512)), hard)
    )
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(service)) for _ in range(count)]


def test_half_sent_bodies_hold_nobody_up(web: Service) -> None:
    # Given many more half-sent bodies than requests are handled at once
    with many(web, 200) as connections:
        for connection in connections:
            connection.sendall(HALF)

        # Then probes and others' timers are answered at once
        for _ in range(5):
            began = time.monotonic()
            assert web.request("GET", "/livez")[0] == 200
            assert web.request("GET", "/readyz")[0] == 200
            web.set_timer(60, "http://127.0.0.1:9/")
            assert time.monotonic() - began < 2 * PATIENCE


def test_idle_connections_shut_nobody_out(web: Service) -> None:
    with many(web, 1_100):
        began = time.monotonic()
        web.set_timer(60, "http://127.0.0.1:9/")
        assert time.monotonic() - began < 2 * PATIENCE


#: The head of a request whose body is never finished.
STARTS = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    # a request that is answered comes before
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na"
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
)


def test_slow_bodies_end(echo: Service) -> None:
    # Given bodies of which some come byte by byte
    with many(echo, 2 * len(STARTS)) as connections:
        began = time.monotonic()
        for connection, start in zip(connections, 2 * STARTS, strict=True):
            connection.sendall(start)
        for pause in (0.2, 0.4):  # in different ticks of the kernel's clock
            time.sleep(pause)
            for connection in connections[:len(STARTS)]:
                connection.sendall(b"1")
        for connection in connections[len(STARTS):]:
            connection.sendall(b"1")

        # Then each is told that it was too slow
        answers = [read_to_end(connection) for connection in connections]

    assert [a.count(b"HTTP/1.1 408 ") for a in answers] == [1] * len(answers)
    assert 0.5 < time.monotonic() - began < slow_app.LIMIT + 5


def test_only_slow_bodies_end(echo: Service) -> None:
    # Given an idle connection that was answered, beside a slow body
    with connect(echo) as idle, connect(echo) as slow:
        request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
        idle.sendall(request)
        assert idle.recv(1000).endswith(b"ok")
        slow.sendall(HALF)

        # When the slow one is hung up on
        assert b" 408 " in read_to_end(slow)

        # Then the idle one is still of use
        idle.sendall(request)
        assert idle.recv(1000).endswith(b"ok")


def test_a_chunked_body_is_read(web: Service) -> None:
    answer = ask(web, chunked(GOOD[:10], GOOD[10:]))
    assert answer.startswith(b"HTTP/1.1 201 ")


def test_a_chunked_body_that_is_too_long_is_413(web: Service) -> None:
    most = 512 * 1024
    spaces = b" " * (most - len(GOOD))
    assert b" 201 " in ask(web, chunked(GOOD, spaces))
    assert b" 413 " in ask(web, chunked(GOOD, spaces, b" "))


def test_a_body_that_was_cut_off_sets_no_timer(web: Service) -> None:
    with connect(web) as connection:
        connection.sendall(HALF)
        connection.shutdown(socket.SHUT_WR)
        assert b" 201 " not in read_to_end(connection)


UPLOAD = (
    b"POST /timers HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n"
)


def test_an_upload_may_take_long(echo: Service) -> None:
    # Given an upload that takes twice as long as another body may, and slow
    # bodies beside it
    with many(echo, 8) as others, connect(echo) as slow:
        slow.sendall(UPLOAD % (8 * PROGRESS))
        for other in others:
            other.sendall(HALF)
            slow.sendall(b"x" * PROGRESS)
            time.sleep(0.4)

        # Then it is answered, and they are not
        answer = read_to_end(slow)
        assert all(b" 408 " in read_to_end(other) for other in others)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\n%d\r\n" % (8 * PROGRESS) in answer[-100:]


def test_an_upload_that_stops_ends(echo: Service) -> None:
    with connect(echo) as slow:
        slow.sendall(UPLOAD % 10_000_000)
        slow.sendall(b"x" * 1_000_000)
        for _ in range(3):
            time.sleep(0.3)
            slow.sendall(b"x")
        assert read_to_end(slow).startswith(b"HTTP/1.1 408 ")


def test_a_long_answer_that_is_not_read_ends(echo: Service) -> None:
    # Given a client that does not read, beside one that reads slowly
    with connect(echo) as deaf, connect(echo) as slow:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        for each in (deaf, slow):
            each.sendall(UPLOAD % 1 + b"x")
        count = 0
        until = time.monotonic() + slow_app.LIMIT + 3
        while time.monotonic() < until:
            count += len(slow.recv(500_000))
            time.sleep(0.2)

        # Then only the first one has lost its connection
        assert len(read_to_end(deaf)) < slow_app.LONG
        assert count + len(read_to_end(slow)) > slow_app.LONG

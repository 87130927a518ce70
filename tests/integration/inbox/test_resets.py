"""The port at which inboxes reset connections."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from apps.inbox import resets, storage
from apps.inbox.storage import Call
from deploy.local.data import can_bind
from tests.support.ports import free_port
from tests.support.postgres_switch import PostgresSwitch
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")

Listen = Callable[[], None]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def listen(port: int) -> Iterator[Listen]:
    """Return what begins to listen, as a web process does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    begun = []

    def begin() -> None:
        listening = resets.listen("127.0.0.1", port)
        begun.append(asyncio.run_coroutine_threadsafe(listening, loop))

    yield begin
    for each in begun:
        each.cancel()
    for step in (loop.shutdown_asyncgens, loop.shutdown_default_executor):
        asyncio.run_coroutine_threadsafe(step(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def listening(listen: Listen, port: int) -> None:
    """Listen."""
    listen()
    eventually(lambda: not can_bind(port))


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


def request(
    target: str = "/inbox/a", method: str = "POST", body: bytes = b"{}",
    headers: str = "",
) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {target} HTTP/1.1\r\n{length}{headers}\r\n"
    return head.encode("latin-1") + body


def is_reset_after(port: int, *pieces: bytes) -> bool:
    """Send pieces on a new connection; tell whether it is reset.

    It is not if there is an answer, or an end, or nothing.
    """
    try:
        with connect(port) as connection:
            for piece in pieces:
                connection.sendall(piece)
            return connection.recv(1) is None
    except (ConnectionResetError, BrokenPipeError):
        return True  # even before it could be used
    except TimeoutError:
        return False


def kept(name: str = "a") -> list[Call]:
    return storage.after(name, 0, 100)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_call_is_kept_and_reset(port: int, method: str) -> None:
    headers = "X-Odd: \xe9\r\nx-odd: 2\r\n"
    sent = request("/inbox/%61?x=%3C&y", method, b"\x00\xff", headers)
    assert is_reset_after(port, sent[:9], sent[9:70], sent[70:])
    (call,) = kept()
    assert (call.method, call.query, call.answer) == (
        method, "x=%3C&y", "reset"
    )
    assert call.body == b"\x00\xff"
    assert call.headers == {"content-length": "2", "x-odd": "\xe9,2"}


@pytest.mark.usefixtures("listening")
def test_a_body_may_come_in_chunks(port: int) -> None:
    head = request(body=b"", headers="Transfer-Encoding: chunked\r\n")
    assert is_reset_after(port, head, b"3\r\nabc\r\n", b"1\r\nd\r\n0\r\n\r\n")
    assert [call.body for call in kept()] == [b"abcd"]


@pytest.mark.usefixtures("listening")
def test_the_first_call_of_a_connection_is_the_last_one(port: int) -> None:
    assert is_reset_after(port, request(body=b"1") + request(body=b"2"))
    assert [call.body for call in kept()] == [b"1"]


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        request("/"),
        request("/inbox/a/calls"),
        request("/inbox/a%0A"),
        request("/inbox/" + "a" * 65),
        request(method="OPTIONS"),
        request(method="CONNECT", target="a:1", body=b""),
        request(body=b"x" * (64 * 1024 + 1)),
        request(headers=f"X-Long: {'x' * 256 * 1024}\r\n"),
        request(body=b"", headers="Upgrade: x\r\nConnection: upgrade\r\n"),
    ],
    ids=lambda sent: sent[:25].decode("latin-1"),
)
def test_what_is_no_call_is_reset_too(
    port: int, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert is_reset_after(port, sent)
    assert kept() == []
    assert "asyncio" not in {record.name for record in caplog.records}
    # And the next one is as good as ever.
    assert is_reset_after(port, request(body=b"x" * 64 * 1024))
    assert len(kept()) == 1


@pytest.mark.usefixtures("listening")
def test_who_is_slow_is_reset_in_the_end(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "LIMIT", 0.5)
    assert is_reset_after(port, request()[:-1])
    assert kept() == []


@pytest.mark.usefixtures("listening")
def test_many_connections_are_too_many_for_a_while(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given as many silent clients as there may be, which have long
    monkeypatch.setattr(resets, "MOST", 3)
    monkeypatch.setattr(resets, "LIMIT", 300)
    silent = [connect(port) for _ in range(3)]
    eventually(lambda: is_reset_after(port) and not kept())

    # When they have left
    for each in silent:
        each.close()

    # Then calls are kept again
    eventually(lambda: is_reset_after(port, request()) and kept())


@pytest.mark.usefixtures("listening")
def test_without_postgres_a_call_is_reset_and_not_kept(
    port: int, postgres: PostgresSwitch, caplog: pytest.LogCaptureFixture
) -> None:
    postgres.goes_away()
    assert is_reset_after(port, request())
    assert "Postgres can't be reached" in caplog.text
    postgres.comes_back()
    assert is_reset_after(port, request())
    assert len(kept()) == 1


@pytest.mark.usefixtures("listening")
def test_what_fails_is_told(
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(storage, "KEEP", "nonsense")
    eventually(
        lambda: is_reset_after(port, request())
        and "was not kept" in caplog.text
    )


def test_a_port_that_is_taken_is_tried_again(
    port: int,
    listen: Listen,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(resets, "_AGAIN", 0.05)
    with socket.create_server(("127.0.0.1", port), reuse_port=True):
        listen()
        eventually(lambda: "can't be listened on" in caplog.text)
    eventually(lambda: not can_bind(port))
    assert is_reset_after(port, request())

"""Connections that are used again, and those that must not be."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from apps.webhooks.http import idle
from apps.webhooks.http.connection import Connection as Connected
from apps.webhooks.results import FailureKind, Result
from tests.support.receiver import OK, Connection, answering, scripted

Call = Callable[..., Result]

ORIGIN = ("http", "receiver", 80)

linux_only = pytest.mark.skipif(
    sys.platform != "linux",
    reason="only Linux tells what the peer has acknowledged",
)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a connection serve again without a pause."""
    monkeypatch.setattr(idle, "MIN_IDLE_SECONDS", 0.0)


@pytest.mark.usefixtures("eager")
def test_calls_one_after_the_other_share_a_connection(call: Call) -> None:
    with scripted(answering()) as server:
        for _ in range(20):
            assert call(server.url()).status_code == 200

    assert len(server.requests) == 20
    assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99999,
    ],
)
def test_what_must_not_be_used_again_is_closed(
    call: Call, answer: bytes
) -> None:
    with scripted(answering(answer, times=1)) as server:
        for _ in range(3):
            assert call(server.url()).status_code == 200

    assert server.accepted == 3


def test_a_connection_rests_before_it_serves_again(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for a busy machine to call twice meanwhile
    monkeypatch.setattr(idle, "MIN_IDLE_SECONDS", 0.5)
    monkeypatch.setattr(idle, "MAX_IDLE_SECONDS", 10.0)
    with scripted(answering()) as server:
        call(server.url())
        call(server.url())
        accepted_at_once = server.accepted
        time.sleep(2 * idle.MIN_IDLE_SECONDS)
        call(server.url())

    assert accepted_at_once == 2
    assert server.accepted == 2


@pytest.mark.usefixtures("eager")
def test_a_second_answer_is_not_taken_for_the_next_call(call: Call) -> None:
    forged = OK.replace(b"200 OK", b"201 No")
    with scripted(answering(OK + forged)) as server:
        for _ in range(5):
            assert call(server.url()).status_code == 200


@pytest.mark.usefixtures("eager")
def test_a_connection_that_waited_long_is_closed(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(answering()) as server, scripted(answering()) as other:
        call(server.url())
        call(other.url())
        monkeypatch.setattr(idle, "MAX_IDLE_SECONDS", 0.0)
        call(server.url())
        call(server.url())

    assert server.accepted == 3
    assert other.accepted == 1


@pytest.mark.usefixtures("eager")
def test_waiting_connections_are_bounded(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "_MAX_IDLE", 2)
    with scripted(answering()) as first, scripted(answering()) as second:
        with scripted(answering()) as third:
            for server in (first, second, third, first):
                assert call(server.url()).status_code == 200

    assert first.accepted == 2
    assert second.accepted == third.accepted == 1


@pytest.mark.usefixtures("eager")
def test_no_connection_is_looked_at_or_closed_under_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given connections that other calls overtake while one looks at them
    waiting = idle.IdleConnections()
    asked: list[str] = []

    def overtaken(what: str) -> bool:
        threads.submit(waiting.take, ("http", "other", 80)).result(5)
        asked.append(what)
        return False

    monkeypatch.setattr(idle, "_MAX_IDLE", 1)
    monkeypatch.setattr(Connected, "is_quiet", lambda _: overtaken("quiet"))
    monkeypatch.setattr(Connected, "close", lambda _: overtaken("close"))
    with socket.socket() as sock, ThreadPoolExecutor(1) as threads:
        for _ in range(2):
            waiting.put(ORIGIN, Connected(sock, "127.0.0.1", 0))

        # When one is to serve, Then nobody has waited for that
        assert waiting.take(ORIGIN) is None

    assert asked == ["close", "quiet", "close"]


def test_a_receiver_that_closes_what_is_idle(call: Call) -> None:
    """After 1 s, with calls from 0 to 1.3 s apart: none is lost."""

    def script(connection: Connection) -> None:
        connection.sock.settimeout(1.0)
        while connection.read_request():
            connection.sock.sendall(OK)

    def calls(pause: float) -> list[int | None]:
        statuses = []
        for n in range(4):
            result = call(server.url(), headers={"webhook-id": f"{pause}-{n}"})
            statuses.append(result.status_code)
            time.sleep(pause)
        return statuses

    pauses = [0.3, 0.49, 0.5, 0.51, 0.98, 0.99, 0.995, 1.0, 1.005, 1.1]
    with scripted(script) as server:
        with ThreadPoolExecutor(len(pauses)) as threads:
            statuses = list(threads.map(calls, pauses))

    assert statuses == [[200] * 4] * len(pauses)
    assert len(server.requests) == len(set(server.requests)) == 40


CLOSING_RECEIVER = """
import asyncio, sys

TIMES, OK = int(sys.argv[1]), sys.argv[2].encode().decode("unicode_escape")

class Closing(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.served = transport, 0

    def data_received(self, data):
        print(data.decode().partition("webhook-id: ")[2].split()[0])
        self.transport.write(OK.encode())
        self.served += 1
        if self.served == TIMES:
            self.transport.close()

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Closing, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@contextmanager
def closing_receiver(times: int) -> Iterator[tuple[str, list[str]]]:
    """Run a receiver that closes a connection after some answers.

    It has a process of its own, so that nothing of ours comes between an
    answer and the close. The ids that it got are there in the end.
    """
    received: list[str] = []
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSING_RECEIVER, str(times),
         OK.decode().encode("unicode_escape").decode()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        # What it prints is read on, or it would wait for us.
        reader = threading.Thread(
            target=lambda: received.extend(process.stdout or ())
        )
        reader.start()
        yield f"http://127.0.0.1:{port}/", received
        process.stdin.close()
        reader.join(10)


@linux_only
@pytest.mark.parametrize("times", [1, 3])
def test_a_receiver_that_closes_after_some_answers(
    call: Call, times: int
) -> None:
    """It says nothing of it: calls cross with the end of a connection.

    One call in 10 did. A few still do when this machine is so busy that
    the receiver gets no time between its answer and the close.
    """

    def one(n: int) -> Result:
        return call(url, headers={"webhook-id": str(n)})

    with closing_receiver(times) as (url, received):
        with ThreadPoolExecutor(32) as threads:
            results = list(threads.map(one, range(2000)))

    failed = [result for result in results if result.status_code != 200]
    assert len(failed) <= 5
    assert {result.failure for result in failed} <= {FailureKind.stale}
    assert len(received) == len(set(received))
    assert len(received) + len(failed) >= 2000


@pytest.mark.usefixtures("eager")
def test_a_connection_found_closed_is_not_used(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has to be sent again, and no hook to be asked again."""
    monkeypatch.setattr(Connected, "bytes_acked", lambda self: 0)
    asked: list[int] = []
    with scripted(answering(times=1)) as server:
        for n in range(3):
            result = call(
                server.url(), before_send=lambda n=n: asked.append(n)
            )
            assert result.status_code == 200
            time.sleep(0.02)  # the receiver's close arrives

    assert asked == [0, 1, 2]


def close_while_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the check of an idle connection find all of them open."""
    monkeypatch.setattr(Connected, "is_quiet", lambda self: True)


@linux_only
@pytest.mark.usefixtures("eager")
def test_a_request_that_crossed_with_the_end_is_sent_again(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_while_idle(monkeypatch)
    sent: list[int] = []
    with scripted(answering(times=1)) as server:
        for n in range(3):
            result = call(server.url(), on_sent=lambda n=n: sent.append(n))
            assert (result.status_code, result.sent) == (200, True)
            time.sleep(0.02)  # the receiver's close arrives

    assert len(server.requests) == 3
    assert sent == [0, 1, 2]


@linux_only
@pytest.mark.usefixtures("eager")
def test_the_hook_learns_of_the_request_that_left(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one had not left: the connection had been reset."""
    close_while_idle(monkeypatch)

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(OK)
        if connection.index == 1:
            connection.reset()

    sent: list[bool] = []
    with scripted(script) as server:
        call(server.url())
        time.sleep(0.02)  # the reset arrives
        result = call(server.url(), on_sent=lambda: sent.append(True))

    assert (result.status_code, result.sent) == (200, True)
    assert sent == [True]


@linux_only
def test_it_is_sent_again_over_a_new_connection(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others that wait may have ended too."""
    close_while_idle(monkeypatch)
    with scripted(answering(times=1)) as server:
        monkeypatch.setattr(idle, "MIN_IDLE_SECONDS", 60.0)
        for _ in range(3):
            call(server.url())
        time.sleep(0.02)
        monkeypatch.setattr(idle, "MIN_IDLE_SECONDS", 0.0)
        result = call(server.url())

    assert result.status_code == 200
    assert server.accepted == len(server.requests) == 4


@linux_only
@pytest.mark.usefixtures("eager")
def test_a_receiver_that_has_gone_got_nothing(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent over the old connection counts for nothing."""
    close_while_idle(monkeypatch)
    with scripted(answering()) as server:
        call(server.url())
        server.close()
        result = call(server.url())

    assert (result.failure, result.sent) == (FailureKind.refused, False)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("eager")
def test_without_the_proof_it_is_not_sent_again(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_while_idle(monkeypatch)
    monkeypatch.setattr(Connected, "bytes_acked", lambda self: 0)
    with scripted(answering(times=1)) as server:
        call(server.url())
        time.sleep(0.02)
        result = call(server.url())

    assert (result.failure, result.sent) == (FailureKind.stale, True)
    assert not FailureKind.stale.unsent
    assert len(server.requests) == 1


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("end", ["close", "reset", "close later"])
def test_what_the_receiver_read_is_not_sent_again(
    call: Call, end: str
) -> None:
    """However it ends: the second request has reached the receiver."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(OK)
        connection.read_request()
        if end == "close later":
            connection.stopping.wait(0.2)
        if end == "reset":
            connection.reset()

    for _ in range(10):
        with scripted(script) as server:
            assert call(server.url()).status_code == 200
            result = call(server.url())

        assert (result.failure, result.sent) == (FailureKind.stale, True)
        assert len(server.requests) == 2


@pytest.mark.usefixtures("eager")
def test_part_of_an_answer_is_no_stale_connection(call: Call) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(OK)
        connection.read_request()
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nA: ")
        time.sleep(0.05)
        connection.reset()

    with scripted(script) as server:
        call(server.url())
        result = call(server.url())

    assert (result.failure, result.sent) == (FailureKind.reset, True)


@pytest.mark.usefixtures("eager")
def test_a_connection_that_ends_while_the_hook_waits(call: Call) -> None:
    events: list[str] = []

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(OK)
        if connection.index == 1:
            connection.stopping.wait(0.1)
        else:
            connection.stopping.wait(5)

    def before_send() -> None:
        events.append("asked")
        if len(events) == 1:
            time.sleep(0.3)

    with scripted(script) as server:
        call(server.url())
        result = call(
            server.url(),
            before_send=before_send,
            on_sent=lambda: events.append("sent"),
        )

    assert result.status_code == 200
    assert len(server.requests) == 2
    assert events == ["asked", "asked", "sent"]

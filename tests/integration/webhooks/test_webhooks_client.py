"""Calls to receivers that answer well, badly, late or not at all."""

import sys
import time
from collections.abc import Callable
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.results import FailureKind, Result
from apps.webhooks.target import parse_target
from tests.support.loopback import needs_ipv6
from tests.support.receiver import (
    OK,
    Connection,
    answering,
    dripping,
    hanging,
    scripted,
)
from tests.support.waiting import PATIENCE

Call = Callable[..., Result]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("", "/"),
        ("/", "/"),
        ("?q", "/?q"),
        ("?", "/?"),
        ("/p?", "/p?"),
        ("/%2f%2F%zz", "/%2f%2F%zz"),
        ("//a/../b/./c", "//a/../b/./c"),
        ("/|[]{}?|[]{}^`<>\"'", "/|[]{}?|[]{}^`<>\"'"),
        ("/x#fragment", "/x"),
    ],
)
def test_the_request_goes_out_byte_for_byte(
    call: Call, given: str, sent: str
) -> None:
    with scripted(answering()) as server:
        result = call(
            server.url(given),
            headers={"user-agent": "ours/1", "webhook-id": "7"},
            body=b'{"a": 1}',
        )

    assert result.status_code == 200
    assert server.requests == [
        (
            f"POST {sent} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{server.port}\r\n"
            "Accept-Encoding: identity\r\n"
            "Content-Length: 8\r\n"
            "user-agent: ours/1\r\n"
            "webhook-id: 7\r\n"
            '\r\n{"a": 1}'
        ).encode()
    ]


def test_a_request_leaves_in_one_piece(call: Call) -> None:
    pieces = []

    def script(connection: Connection) -> None:
        pieces.append(connection.sock.recv(65536))
        connection.sock.sendall(OK)

    with scripted(script) as server:
        call(server.url(), body=b"body")

    assert pieces[0].endswith(b"\r\n\r\nbody")


@needs_ipv6
def test_an_ipv6_receiver_is_called(call: Call) -> None:
    with scripted(answering(), host="::1") as server:
        assert call(server.url()).status_code == 200

    assert f"Host: [::1]:{server.port}\r\n".encode() in server.requests[0]


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (HEAD + b"Content-Length: 0\r\n\r\n", 200, b""),
        (HEAD + b"\r\nno length", 200, b"no length"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
         b"Content-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 1\r\n\r\nx", 500, b"x"),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
         503, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
         b"Link: </a>\r\n\r\n" + OK, 200, b"ok"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n"
         b"0\r\n\r\n", 200, b"hello"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhe", 200, b""),
        (HEAD + b"Content-Length: 9\r\n\r\ncut", 200, b"cut"),
        (HEAD + b"Content-Length: x\r\n\r\nabc", 200, b"abc"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\0", 200,
         b"\x1f\x8b\0"),
        (HEAD + b"\r\n" + b"b" * 5000, 200, b"b" * 1024),
        (HEAD + b"X-Odd \xff: \xfe\r\n\r\nok", 200, b"ok"),
        (HEAD + b"A: b\r\n" * 200 + b"\r\n", 200, b""),
    ],
)  # fmt: skip
def test_a_status_is_the_answer(
    call: Call, answer: bytes, status: int, body: bytes
) -> None:
    with scripted(answering(answer, times=1)) as server:
        result = call(server.url())

    assert (result.status_code, result.failure) == (status, None)
    assert result.body == body
    assert result.sent
    assert 0 < result.duration < 4
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"", FailureKind.reset),
        (b"HTTP/1.1", FailureKind.protocol),
        (b"SSH-2.0-OpenSSH\r\n", FailureKind.protocol),
        (b"\x15\x03\x01\x00\x02\x02\x46", FailureKind.protocol),
        (b"HTTP/2 200\r\n\r\n", FailureKind.protocol),
        (b"HTTP/1.1 abc\r\n\r\n", FailureKind.protocol),
        (b"HTTP/1.1 99 Low\r\n\r\n", FailureKind.protocol),
        (b"HTTP/1.1 \xb2\xb2\xb2 No\r\n\r\n", FailureKind.protocol),
        (b"\r\n" + OK, FailureKind.protocol),
        (HEAD + b"A: " + b"b" * 70_000 + b"\r\n\r\n", FailureKind.protocol),
        (HEAD + (b"A: " + b"b" * 5000 + b"\r\n") * 40, FailureKind.protocol),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9000, FailureKind.protocol),
        (b"z" * 1_000_000, FailureKind.protocol),
    ],
)
def test_no_answer_is_a_failure_after_sending(
    call: Call, answer: bytes, failure: FailureKind
) -> None:
    with scripted(answering(answer, times=1)) as server:
        result = call(server.url())

    assert (result.status_code, result.failure) == (None, failure)
    assert result.sent
    assert not failure.unsent
    assert 0 < len(result.detail) <= 200
    assert result.detail.isprintable()
    assert len(server.requests) == 1


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda tail: HEAD + tail)
    | st.lists(
        st.sampled_from(
            [b"HTTP/1.1 ", b"200", b" OK", b"\r\n", b"\n", b"1", b"ffffffff",
             b"Content-Length: ", b"-1", b"Transfer-Encoding: chunked", b"0",
             b"Connection: close", b":", b" ", b"\x00", b"\xff", b";x", b"100"]
        )
    ).map(b"".join)
)  # fmt: skip
def test_no_answer_makes_it_raise(answer: bytes) -> None:
    client = WebhookClient(Policy((ip_network("127.0.0.1/32"),)))
    target = None
    with scripted(answering(answer, times=1)) as server:
        target = parse_target(server.url())
        result = client.call(
            target, headers={}, body=b"", deadline=time.monotonic() + 5
        )

    assert result.sent
    assert (result.status_code is None) != (result.failure is None)


def test_a_reset_after_the_request_was_read(call: Call) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.reset()

    with scripted(script) as server:
        result = call(server.url())

    assert (result.failure, result.sent) == (FailureKind.reset, True)


def test_a_reset_before_the_request_was_taken(call: Call) -> None:
    """A body larger than all buffers can't leave."""

    def script(connection: Connection) -> None:
        connection.sock.recv(1)
        connection.reset()

    with scripted(script) as server:
        result = call(server.url(), body=b"x" * 50_000_000)

    assert (result.failure, result.sent) == (FailureKind.reset, False)


def test_an_answer_to_half_a_request_counts(call: Call) -> None:
    """413 and a close: the rest of the request meets a reset."""
    marks: list[bool] = []

    def script(connection: Connection) -> None:
        connection.sock.recv(1000)
        connection.sock.sendall(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
        )

    with scripted(script) as server:
        result = call(
            server.url(),
            body=b"x" * 50_000_000,
            on_sent=lambda: marks.append(True),
        )

    if sys.platform == "linux":  # it keeps what came before the reset
        assert result.status_code == 413
    assert not result.sent
    assert not marks


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (hanging, FailureKind.timeout),
        (dripping(b"HTTP/1.1 200 ", b"O"), FailureKind.timeout),
        (dripping(HEAD, b"A: b\r\n"), FailureKind.timeout),
        (dripping(b"", b"HTTP/1.1 100 C\r\n\r\n"), FailureKind.timeout),
    ],
)
def test_the_deadline_ends_what_drips_or_hangs(
    call: Call, script: Callable[[Connection], None], failure: FailureKind
) -> None:
    with scripted(script) as server:
        result = call(server.url(), seconds=0.5)

    assert result.failure in (failure, FailureKind.timeout)
    assert result.sent
    assert 0.4 <= result.duration < 1.5 * PATIENCE


def test_what_is_no_answer_ends_before_the_deadline(call: Call) -> None:
    with scripted(dripping(b"", b"H")) as server:
        result = call(server.url())

    assert (result.failure, result.sent) == (FailureKind.protocol, True)
    assert result.duration < 2.5


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"Content-Length: 1000\r\n\r\n",
        HEAD + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
    ],
)
def test_the_status_counts_though_the_body_drips(
    call: Call, start: bytes
) -> None:
    with scripted(dripping(start, b"x")) as server:
        result = call(server.url(), seconds=0.5)

    assert (result.status_code, result.failure) == (200, None)
    assert 0.4 <= result.duration < 1.5 * PATIENCE


@pytest.mark.parametrize("framing", [b"Content-Length: 200000000\r\n", b""])
def test_an_endless_body_is_left_unread(call: Call, framing: bytes) -> None:
    taken = 0

    def script(connection: Connection) -> None:
        nonlocal taken
        connection.read_request()
        connection.sock.sendall(HEAD + framing + b"\r\n")
        for _ in range(200):
            connection.sock.sendall(b"x" * 1_000_000)
            taken += 1_000_000

    with scripted(script) as server:
        result = call(server.url())

    assert result.status_code == 200
    assert result.body == b"x" * 1024
    assert taken < 20_000_000  # what the kernel's buffers hold
    assert result.duration < 1.5 * PATIENCE


def test_endless_trailers_are_left_unread(call: Call) -> None:
    taken = 0

    def script(connection: Connection) -> None:
        nonlocal taken
        connection.read_request()
        connection.sock.sendall(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        )
        for _ in range(200):
            connection.sock.sendall(b"A: b\r\n" * 100_000)
            taken += 600_000

    with scripted(script) as server:
        result = call(server.url())

    assert result.status_code == 200
    assert taken < 20_000_000


def test_a_receiver_that_takes_nothing_is_given_up(call: Call) -> None:
    def script(connection: Connection) -> None:
        connection.stopping.wait(30)

    with scripted(script) as server:
        result = call(server.url(), seconds=0.5, body=b"x" * 50_000_000)

    assert (result.failure, result.sent) == (FailureKind.timeout, False)
    assert 0.4 <= result.duration < 1.5 * PATIENCE

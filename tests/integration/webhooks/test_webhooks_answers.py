"""What comes of answers, good and bad, byte by byte.

Each case is answered twice over one client. So it shows the status, whether
the connection serves again, and whether the call waited for more of a body.
"""

from collections.abc import Callable

import pytest

from apps.webhooks.http import idle
from apps.webhooks.http.adapter import BODY_SECONDS
from apps.webhooks.results import FailureKind, Result
from tests.support.receiver import answering, scripted
from tests.support.waiting import at_best

Call = Callable[..., Result]

KEPT, CLOSED = True, False
#: The body's end was not to be known: the call waited a while for more.
OPEN = None
#: What the receiver does after it: answer the next request, or close.
STAYS, CLOSES = None, 1

H = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MANY = b"".join(b"X-%d: y\r\n" % n for n in range(130))
LONG = b"A: " + b"b" * 15_000 + b"\r\n"

ANSWERS: list[tuple[bytes, int | None, int | FailureKind, bool | None]] = [
    # --- framed by a length
    (H + TWO + b"\r\nok", STAYS, 200, KEPT),
    (H + b"content-length:2\r\n\r\nok", STAYS, 200, KEPT),
    (H + b"Content-Length:  2 \r\n\r\nok", STAYS, 200, KEPT),
    (H + b"Content-Length: 0\r\n\r\n", STAYS, 200, KEPT),
    (H + b"Content-Length: 002\r\n\r\nok", STAYS, 200, KEPT),
    (b"HTTP/1.1 200\r\n" + TWO + b"\r\nok", STAYS, 200, KEPT),
    (b"HTTP/1.1 200 \r\n" + TWO + b"\r\nok", STAYS, 200, KEPT),
    (b"HTTP/1.1 200 \xc3\x9c ok\r\n" + TWO + b"\r\nok", STAYS, 200, KEPT),
    (b"HTTP/1.1 404 No\r\n" + TWO + b"\r\nno", STAYS, 404, KEPT),
    (b"HTTP/1.1 503 Busy\r\n" + TWO + b"\r\nno", STAYS, 503, KEPT),
    (b"HTTP/1.1 299 Odd\r\n" + TWO + b"\r\nok", STAYS, 299, KEPT),
    (b"HTTP/1.1 600 Odd\r\n" + TWO + b"\r\nok", STAYS, 600, KEPT),
    (b"HTTP/1.1 999 Odd\r\n" + TWO + b"\r\nok", STAYS, 999, KEPT),
    (b"HTTP/1.1 302 Go\r\nLocation: /\r\n" + TWO + b"\r\nok", STAYS, 302,
     KEPT),
    (b"HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic\r\n" + TWO + b"\r\nok",
     STAYS, 401, KEPT),
    (H + b"Content-Length: 3\r\n\r\nok", STAYS, 200, OPEN),
    (H + b"Content-Length: 3\r\n\r\nok", CLOSES, 200, CLOSED),
    (H + b"Content-Length: 1\r\n\r\nok", STAYS, 200, CLOSED),
    (H + TWO + b"\r\nok" + H + TWO + b"\r\nok", STAYS, 200, CLOSED),
    (H + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000, STAYS, 200,
     CLOSED),
    # --- lengths that are none, or two
    (H + b"Content-Length: x\r\n\r\nok", STAYS, 200, OPEN),
    (H + b"Content-Length: -2\r\n\r\nok", STAYS, 200, OPEN),
    (H + b"Content-Length: 2, 2\r\n\r\nok", STAYS, 200, OPEN),
    (H + b"Content-Length: 99999999999999999999999\r\n\r\nok", STAYS, 200,
     OPEN),
    (H + TWO + b"Content-Length: 3\r\n\r\nok", STAYS, 200, OPEN),
    (H + TWO + CHUNKED + b"\r\n0\r\n\r\n", STAYS, 200, OPEN),
    (H + b"content-length : 2\r\n\r\nok", STAYS, 200, OPEN),
    # --- framed by chunks
    (H + CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n", STAYS, 200, KEPT),
    (H + CHUNKED + b"\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", STAYS, 200, KEPT),
    (H + CHUNKED + b"\r\n2;a=b\r\nok\r\n0\r\n\r\n", STAYS, 200, KEPT),
    (H + CHUNKED + b"\r\n0\r\nTrailer: x\r\n\r\n", STAYS, 200, KEPT),
    (H + CHUNKED + b"\r\n2\r\nok\r\n", STAYS, 200, OPEN),
    (H + CHUNKED + b"\r\n2\r\nok\r\n0\r\n", STAYS, 200, OPEN),
    (H + CHUNKED + b"\r\n2\r\nok\r\n", CLOSES, 200, CLOSED),
    (H + CHUNKED + b"\r\nzz\r\nok\r\n", STAYS, 200, CLOSED),
    (H + CHUNKED + b"\r\nffffffffffffffffff\r\n", STAYS, 200, CLOSED),
    (H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", STAYS, 200,
     KEPT),
    # --- framed by the connection's end
    (H + b"\r\nok", CLOSES, 200, CLOSED),
    (H + b"\r\n", CLOSES, 200, CLOSED),
    (H + b"\r\nok", STAYS, 200, OPEN),
    (H + b"Content-Type: text/event-stream\r\n\r\ndata: 1\n\n", STAYS, 200,
     OPEN),
    (H + b"Connection: close\r\n" + TWO + b"\r\nok", CLOSES, 200, CLOSED),
    (H + b"Connection: close\r\n" + TWO + b"\r\nok", STAYS, 200, CLOSED),
    (b"HTTP/1.0 200 OK\r\n\r\nok", CLOSES, 200, CLOSED),
    (b"HTTP/1.0 200 OK\r\n" + TWO + b"\r\nok", STAYS, 200, CLOSED),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + TWO + b"\r\nok",
     STAYS, 200, KEPT),
    # --- answers that have no body
    (b"HTTP/1.1 204 No\r\n\r\n", STAYS, 204, KEPT),
    (b"HTTP/1.1 304 Same\r\n\r\n", STAYS, 304, KEPT),
    (b"HTTP/1.1 204 No\r\n" + TWO + b"\r\nok", STAYS, 204, CLOSED),
    (b"HTTP/1.1 304 Same\r\n" + TWO + b"\r\n", STAYS, 304, KEPT),
    (b"HTTP/1.1 304 Same\r\n" + TWO + b"\r\nok", STAYS, 304, CLOSED),
    # --- answers that announce another one
    (b"HTTP/1.1 100 Go on\r\n\r\n" + H + TWO + b"\r\nok", STAYS, 200, KEPT),
    (b"HTTP/1.1 102 Wait\r\n\r\n" * 3 + H + TWO + b"\r\nok", STAYS, 200,
     KEPT),
    (b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n" + H + TWO + b"\r\nok",
     STAYS, 200, KEPT),
    (b"HTTP/1.1 199 Odd\r\nA b: c\r\n\r\n" + H + TWO + b"\r\nok", STAYS, 200,
     OPEN),
    (b"HTTP/1.1 101 Up\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nok",
     STAYS, 101, CLOSED),
    (b"HTTP/1.1 100 Go on\r\n\r\n", CLOSES, FailureKind.protocol, CLOSED),
    # --- heads that are wrong in part
    (H + MANY + TWO + b"\r\nok", STAYS, 200, KEPT),
    (H + LONG + TWO + b"\r\nok", STAYS, 200, KEPT),
    (H + b"no header\r\n" + TWO + b"\r\nok", STAYS, 200, OPEN),
    (H + b": empty\r\n" + TWO + b"\r\nok", STAYS, 200, OPEN),
    (H + b"A\xff: b\r\n" + TWO + b"\r\nok", STAYS, 200, OPEN),
    (H + b"A: \xff\xfe\r\n" + TWO + b"\r\nok", STAYS, 200, KEPT),
    (H + b"A: \0\r\n" + TWO + b"\r\nok", STAYS, 200, OPEN),
    (H + b"A: b\r\n folded\r\n" + TWO + b"\r\nok", STAYS, 200, OPEN),
    (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", STAYS, 200, KEPT),
    (H, CLOSES, 200, CLOSED),
    (H + b"Content-Le", CLOSES, 200, CLOSED),
    # --- what is no answer
    (H + LONG + LONG + b"\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"HTTP/1.1 200 " + b"O" * 17_000, STAYS, FailureKind.protocol, CLOSED),
    (b"HTTP/1.1 20 OK\r\n\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"HTTP/1.1 2000 OK\r\n\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"HTTP/1.1  200 OK\r\n\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"HTTP/2.0 200 OK\r\n\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"HTTP/1.2 200 OK\r\n\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"http/1.1 200 OK\r\n\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"220 mail.example ESMTP\r\n", STAYS, FailureKind.protocol, CLOSED),
    (b"HTTP/1.1 2", CLOSES, FailureKind.protocol, CLOSED),
    (b"", CLOSES, FailureKind.reset, CLOSED),
]


def test_the_table_is_long_enough() -> None:
    assert len(ANSWERS) >= 60


@pytest.mark.parametrize(
    ("answer", "times", "right", "kept"),
    ANSWERS,
    ids=[ascii(answer[0][:60]) for answer in ANSWERS],
)
def test_an_answer(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    times: int | None,
    right: int | FailureKind,
    kept: bool | None,
) -> None:
    monkeypatch.setattr(idle, "MIN_IDLE_SECONDS", 0.0)

    def longest() -> float:
        with scripted(answering(answer, times=times)) as server:
            results = [call(server.url()) for _ in range(2)]

        for result in results:
            assert right in (result.status_code, result.failure)
            assert result.sent
            assert kept is not OPEN or result.duration >= BODY_SECONDS
        assert server.accepted == (1 if kept else 2)
        return max(result.duration for result in results)

    at_best(longest, under=(2 if kept is OPEN else 1) * BODY_SECONDS)


@pytest.mark.parametrize(
    "head",
    [
        H + b"Retry-After: 7\r\n" + TWO,
        H + b"retry-after:7\r\n" + TWO,
        H + b"RETRY-AFTER: \t 7 \t \r\n" + TWO,
        H + b"nonsense\r\nRetry-After: 7\r\n",
        H + b"Retry-After: 7\r\nA : b\r\n",
        b"HTTP/1.1 103 Hints\r\nRetry-After: 9\r\n\r\n" + H
        + b"Retry-After: 7\r\n" + TWO,
    ],
)
def test_what_it_says_of_coming_again(call: Call, head: bytes) -> None:
    with scripted(answering(head + b"\r\nok", times=1)) as server:
        result = call(server.url())

    assert (result.status_code, result.retry_after) == (200, "7")

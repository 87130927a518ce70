"""Receivers that try to keep a worker busy, or to hold it."""

import random
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.results import FailureKind, Result
from tests.integration.webhooks.test_webhooks_answers import ANSWERS
from tests.support import keyupdates
from tests.support.receiver import Connection, answering, scripted
from tests.support.waiting import at_best

Call = Callable[..., Result]

#: The most processor time that a receiver may cost a call, in seconds.
MOST_CPU = 0.05

OPENSSL = keyupdates.library()


@pytest.mark.skipif(
    OPENSSL is None, reason="OpenSSL can't be loaded to send key updates"
)
@pytest.mark.parametrize("kind", ["key update", "ticket"])
def test_records_without_data_end_a_call(
    call: Call, certificate: Path, kind: str
) -> None:
    assert OPENSSL is not None
    client = WebhookClient(
        Policy(
            (ip_network("127.0.0.0/8"),),
            ca_file=str(certificate.with_name("certificate.pem")),
        )
    )

    def duration() -> float:
        with keyupdates.flooding_receiver(
            OPENSSL, certificate, kind, seconds=2
        ) as port:
            began = time.thread_time()
            result = call(
                f"https://127.0.0.1:{port}/", client=client, seconds=1
            )
            used = time.thread_time() - began
        assert result.failure is FailureKind.protocol
        assert result.sent
        assert used < MOST_CPU
        return result.duration

    at_best(duration, under=1.05)
    client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nContent-Type: multipart/a;"' + b";" * 65_000
        + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 16_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"bad\r\n" * 13_000 + b"\r\n",
        b"HTTP/1.1 100 C\r\n\r\n" * 3_600,
        b"HTTP/1.1 100 C\r\nbad\r\n\r\n" * 2_800,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1;" + b"x" * 64_000 + b"\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 64_000,
        b"HTTP/1.1 200 OK\r\nbad\r\n\r\n" + b"x" * 64_000,
    ],
    ids=lambda answer: ascii(answer[:40]),
)
def test_what_is_dear_to_read(call: Call, answer: bytes) -> None:
    with scripted(answering(answer, times=1)) as server:
        began = time.thread_time()
        result = call(server.url())
        used = time.thread_time() - began

    assert result.failure in (None, FailureKind.protocol)
    assert used < MOST_CPU


@pytest.mark.parametrize("step", [1, 3])
def test_an_answer_in_small_pieces(call: Call, step: int) -> None:
    """Each of which is a wake-up and a call of the parser."""
    answer = b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + (
        b"Content-Length: 0\r\n\r\n"
    )

    def script(connection: Connection) -> None:
        connection.read_request()
        for start in range(0, len(answer), step):
            connection.sock.sendall(answer[start:start + step])

    with scripted(script) as server:
        began = time.thread_time()
        result = call(server.url())
        used = time.thread_time() - began

    assert result.status_code == 200
    assert used < MOST_CPU


def mutated(chance: random.Random) -> bytes:
    """Return a valid or nearly valid answer with a few bytes changed."""
    answer = bytearray(chance.choice(ANSWERS)[0][:400])
    for _ in range(chance.randint(1, 4)):
        where = chance.randint(0, len(answer))
        change = chance.randint(0, 3)
        if change == 0:
            answer[where:where] = bytes([chance.randint(0, 255)])
        elif change == 1:
            del answer[where:where + chance.randint(1, 4)]
        elif change == 2:
            answer[where:where + 1] = bytes([chance.randint(0, 255)])
        else:
            part = answer[where:where + chance.randint(1, 20)]
            answer[where:where] = part
    return bytes(answer)


def play(call: Call, seed: int, count: int) -> None:
    """Have so many mutations answered; none may raise or overrun."""
    chance = random.Random(seed)
    answers: list[bytes] = [b""]

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(answers[0])

    def duration() -> float:
        result = call(server.url(), seconds=1.0)
        found = result.status_code, result.failure
        assert found.count(None) == 1, answers[0]
        return result.duration

    with scripted(script) as server:
        for _ in range(count):
            answers[0] = mutated(chance)
            at_best(duration, under=1.05)


def test_mutated_answers_neither_raise_nor_overrun(call: Call) -> None:
    play(call, seed=1, count=500)


@pytest.mark.load
@pytest.mark.timeout(600)
def test_60_000_mutated_answers(call: Call) -> None:
    play(call, seed=2, count=60_000)

"""The receiver and the load generator of `make bench`, over sockets."""

import itertools
import json
import socket
from collections.abc import Iterator

import pytest

from tests.load.bench.generator import drive, request
from tests.load.bench.receiver import Receiver
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def test_a_call_in_pieces_is_read_when_it_is_whole(
    receiver: Receiver,
) -> None:
    body = json.dumps(
        {"id": "a", "timestamp": "2026-01-01T00:00:00+00:00"}
    ).encode()
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", receiver.port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (head[:20], head[20:], body[:9]):
            link.sendall(piece)
            assert receiver.count() == 0
        link.sendall(body[9:])
        assert link.recv(100).startswith(b"HTTP/1.1 200 ")
    (call,) = receiver.take()
    assert (call.timer, call.due) == ("a", 1_767_225_600)
    assert receiver.count() == 0


@pytest.mark.parametrize(("rate", "least"), [(float("inf"), 0), (200, 0.49)])
def test_each_request_is_sent_once_and_at_its_time(
    receiver: Receiver, rate: float, least: float
) -> None:
    requests = itertools.repeat(request(1, receiver.url), 100)
    driven = drive(receiver.port, requests, rate=rate, connections=7)
    assert driven.answers == 100
    assert driven.seconds > least
    assert driven.timers == set()       # a 200 sets no timer
    eventually(lambda: receiver.count() == 100)
    receiver.forget()

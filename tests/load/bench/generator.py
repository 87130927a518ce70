"""The load generator: sets timers over HTTP from one thread, cheaply.

It makes several times the requests of the fastest server measured here, so
a few kept-alive connections of one process are enough.
"""

import json
import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
#: A server that answers nothing for so many seconds has failed.
_PATIENCE = 60.0


@dataclass
class Driven:
    """What came of a run of requests.

    `seconds` lie between the first request and the last answer.
    """

    timers: set[str] = field(default_factory=set)
    answers: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Timers set a second."""
        return len(self.timers) / self.seconds

    def add(self, other: "Driven") -> None:
        """Take another run to be a part of this one."""
        self.timers |= other.timers
        self.answers += other.answers
        self.seconds += other.seconds


def request(delay: int, url: str) -> bytes:
    """Return the request that sets a timer of `delay` seconds."""
    body = json.dumps(
        {"hours": 0, "minutes": 0, "seconds": delay, "url": url}
    ).encode()
    return (
        b"POST /timer HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"content-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


def drive(
    port: int,
    requests: Iterator[bytes],
    *,
    rate: float = float("inf"),
    connections: int = 128,
) -> Driven:
    """Send requests until there are none left; wait for the answers.

    At `rate` a second, each at its time, or as fast as answers come.
    """
    return _Generator(port, requests, rate, connections).run()


class _Generator:
    def __init__(
        self,
        port: int,
        requests: Iterator[bytes],
        rate: float,
        connections: int,
    ) -> None:
        self._requests = requests
        self._rate = rate
        self._sent = 0
        self._ended = False
        # In turn, since servers close those that are idle for long.
        self._idle = deque(
            socket.create_connection(("127.0.0.1", port))
            for _ in range(connections)
        )
        self._selector = selectors.DefaultSelector()
        for link in self._idle:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(link, selectors.EVENT_READ)
        self._unread = dict.fromkeys(self._idle, b"")
        self._driven = Driven()

    def run(self) -> Driven:
        """Send everything and wait for the answers."""
        began = time.monotonic()
        try:
            while not self._ended or len(self._idle) < len(self._unread):
                self._send(began)
                self._read(self._pause(began))
        finally:
            self._selector.close()
            for link in self._unread:
                link.close()
        self._driven.seconds = time.monotonic() - began
        return self._driven

    def _send(self, began: float) -> None:
        """Send what is to be sent by now."""
        while self._idle and not self._ended:
            if time.monotonic() < began + self._sent / self._rate:
                break
            if (data := next(self._requests, None)) is None:
                self._ended = True
            else:
                self._idle.popleft().sendall(data)
                self._sent += 1

    def _pause(self, began: float) -> float:
        """Return for how long there is nothing to send."""
        if self._ended and len(self._idle) == len(self._unread):
            return 0.0
        if self._ended or not self._idle:
            return _PATIENCE
        due = began + self._sent / self._rate - time.monotonic()
        return min(max(due, 0.0), 1.0)

    def _read(self, pause: float) -> None:
        ready = self._selector.select(pause)
        if not ready and pause == _PATIENCE:
            raise TimeoutError("the server does not answer")
        for key, _ in ready:
            assert isinstance(key.fileobj, socket.socket)
            self._take(key.fileobj)

    def _take(self, link: socket.socket) -> None:
        data = link.recv(65_536)
        if not data:
            raise ConnectionError("the server has closed a connection")
        data = self._unread[link] + data
        end = data.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(data, 0, end) if end > 3 else None
        if length and len(data) >= end + int(length[1]):
            self._note(data, end)
            self._idle.append(link)
            data = b""
        self._unread[link] = data

    def _note(self, answer: bytes, end: int) -> None:
        self._driven.answers += 1
        if answer.startswith(b"HTTP/1.1 201 "):
            self._driven.timers.add(json.loads(answer[end:])["id"])

"""The receiver of every call: one process, raw sockets, no framework.

It must not be what is measured: it takes over 15,000 calls a second of one
core, and keeps bodies unread until the run is over.
"""

import json
import multiprocessing
import re
import selectors
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any, Self

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass(frozen=True, slots=True)
class Call:
    """One call; both times are on this machine's clock, in seconds."""

    timer: str
    due: float
    arrived: float

    @property
    def late(self) -> float:
        """Seconds after the time that the caller says it was due."""
        return self.arrived - self.due


class Receiver:
    """The process, seen from the one that measures."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()
        self.port: int = self._pipe.recv()

    @property
    def url(self) -> str:
        """Where timers are to call."""
        return f"http://127.0.0.1:{self.port}/hook"

    def _ask(self, question: str) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()

    def count(self) -> int:
        """Return how many calls have come since the last `take`."""
        return int(self._ask("count"))

    def take(self) -> list[Call]:
        """Return the calls that have come, and forget them."""
        return [Call(*values) for values in self._ask("take")]

    def forget(self) -> None:
        """Forget the calls that have come, unread."""
        self._ask("forget")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10)


class _Server:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._calls: list[tuple[float, bytes]] = []
        self._unread: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(
            ("127.0.0.1", 0), backlog=4096
        )
        self._listener.setblocking(False)
        self._selector.register(pipe, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        pipe.send(self._listener.getsockname()[1])

    def run(self) -> None:
        """Serve until the other end of the pipe is closed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._pipe:
                    self._answer(self._pipe.recv())
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)

    def _answer(self, question: str) -> None:
        calls = self._calls
        if question == "forget":
            self._pipe.send(len(calls))
            self._calls = []
        elif question == "count":
            self._pipe.send(len(calls))
        else:
            self._calls = []
            self._pipe.send([_parsed(*call) for call in calls])

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread[client] = b""
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(client)
            del self._unread[client]
            client.close()
            return
        arrived = time.time()
        data = self._unread[client] + data
        # Clients don't pipeline: there is one request at most.
        end = data.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(data, 0, end) if end > 3 else None
        if length and len(data) >= end + int(length[1]):
            self._calls.append((arrived, data[end:]))
            data = b""
            client.send(_OK)
        self._unread[client] = data


def _parsed(arrived: float, body: bytes) -> tuple[str, float, float]:
    payload = json.loads(body)
    due = datetime.fromisoformat(payload["timestamp"]).timestamp()
    return payload["id"], due, arrived


def _serve(pipe: Connection) -> None:
    try:
        _Server(pipe).run()
    except (EOFError, KeyboardInterrupt):
        pipe.close()

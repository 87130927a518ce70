"""Real receivers on a free port. A script plays each connection's other end.

`Receiver` answers HTTP as told; `scripted` runs any other script, whatever
bytes it sends.
"""

import json
import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from http.client import responses
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Call:
    """One request, as its bytes; it is parsed when it is looked at.

    `arrived` is on the machine's clock, in seconds.
    """

    arrived: float
    raw: bytes

    @cached_property
    def _lines(self) -> list[str]:
        return self.raw.partition(_END)[0].decode("latin-1").split("\r\n")

    @property
    def method(self) -> str:
        """The request line's first word."""
        return self._lines[0].split(" ")[0]

    @property
    def path(self) -> str:
        """The request line's second word."""
        return self._lines[0].split(" ")[1]

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers by their names in small letters."""
        pairs = (line.partition(":") for line in self._lines[1:])
        return {name.lower(): value.strip() for name, _, value in pairs}

    @property
    def body(self) -> bytes:
        """What follows the head."""
        return self.raw.partition(_END)[2]

    @property
    def payload(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def timer(self) -> str:
        """The timer's id."""
        return self.headers["webhook-id"]

    @property
    def late(self) -> float:
        """Seconds between the timer's time and the call's arrival."""
        due = datetime.fromisoformat(self.headers["timer-due-at"])
        return self.arrived - due.timestamp()


@dataclass
class Connection:
    """One accepted connection, with what a script needs to answer it."""

    sock: socket.socket
    stopping: threading.Event
    calls: list[Call]
    index: int

    def read_request(self) -> bytes:
        """Read a request to its end, b"" if the client has closed."""
        data = b""
        while _END not in data:
            part = self.sock.recv(65536)
            if not part:
                return b""
            data += part
        arrived = time.time()
        head, _, body = data.partition(_END)
        left = _length(head) - len(body)
        parts = [data]
        while left > 0:
            part = self.sock.recv(65536)
            if not part:
                return b""
            parts.append(part)
            left -= len(part)
        request = b"".join(parts)
        self.calls.append(Call(arrived, request))
        return request

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
        self.sock.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


Script = Callable[[Connection], None]


class ScriptedReceiver:
    """A server on a free port; `script` plays the part of each connection.

    It serves at once. One that is `absent` holds its port and refuses
    connections, one that is `deaf` lets nobody connect, until `listen`.
    """

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        absent: bool = False,
        deaf: bool = False,
    ) -> None:
        self.script = script
        self.tls = tls
        self.host = host
        self.stopping = threading.Event()
        self.calls: list[Call] = []
        #: How many connections there were, and how many resumed a session.
        self.accepted = self.resumed = 0
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._serving: list[threading.Thread] = []
        self._unheard: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, 0))
        self.port: int = self._listener.getsockname()[1]
        if deaf:
            self._fill_queue()
        elif not absent:
            self.listen()

    @property
    def requests(self) -> list[bytes]:
        """The requests so far, byte for byte."""
        return [call.raw for call in self.calls]

    def url(self, path: str = "/hook") -> str:
        """Return a URL of this receiver, by address."""
        scheme = "http" if self.tls is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{path}"

    def listen(self) -> None:
        """Take connections from now on."""
        for client in self._unheard:
            client.close()
        self._listener.listen(1024)
        self._accepting.start()

    def close(self) -> None:
        """Close everything and wait for the scripts' ends."""
        self.stopping.set()
        # A shutdown wakes accept(); a close alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._accepting.is_alive():
            self._accepting.join(5)
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._serving:
            thread.join(5)

    def _fill_queue(self) -> None:
        """Connect until the kernel drops who connects next."""
        self._listener.listen(0)
        for _ in range(16):
            client = socket.socket()
            client.settimeout(0.2)
            self._unheard.append(client)
            try:
                client.connect((self.host, self.port))
            except TimeoutError:
                return
        raise AssertionError("the queue of connections does not fill up")

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._sockets.append(sock)
            thread = threading.Thread(
                target=self._serve, args=(sock, self.accepted), daemon=True
            )
            self._serving.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, index: int) -> None:
        # A killed worker's connection is reset while it is read.
        with suppress(OSError), sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
                self.resumed += bool(sock.session_reused)
            with sock:
                self.script(
                    Connection(sock, self.stopping, self.calls, index)
                )


class Receiver(ScriptedReceiver):
    """Answers every call with `status`, `answer` and `headers`.

    That is after `delay` seconds. Up to `jitter` seconds more are added at
    random. While `gate` is cleared, calls that have arrived are not answered.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        absent: bool = False,
        deaf: bool = False,
    ) -> None:
        self.status = 200
        self.answer = b""
        self.headers: dict[str, str] = {}
        self.delay = self.jitter = 0.0
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(self._answer, host=host, absent=absent, deaf=deaf)

    def counts(self) -> Counter[str]:
        """Return how often each timer was called."""
        return Counter(call.timer for call in list(self.calls))

    def close(self) -> None:
        """Stop listening; calls that wait at the gate are let go."""
        self.gate.set()
        super().close()

    def _answer(self, connection: Connection) -> None:
        while connection.read_request():
            self.gate.wait(60)
            wait = self.delay + random.uniform(0, self.jitter)
            if wait and self.stopping.wait(wait):
                return
            connection.sock.sendall(self._response())

    def _response(self) -> bytes:
        headers = {**self.headers, "content-length": len(self.answer)}
        lines = [f"{name}: {value}" for name, value in headers.items()]
        reason = responses.get(self.status, "")
        head = "\r\n".join([f"HTTP/1.1 {self.status} {reason}", *lines])
        return head.encode("latin-1") + _END + self.answer


@contextmanager
def scripted(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Iterator[ScriptedReceiver]:
    """Run a receiver for the length of a with statement."""
    server = ScriptedReceiver(script, tls=tls, host=host)
    try:
        yield server
    finally:
        server.close()


def answering(answer: bytes = OK, *, times: int | None = None) -> Script:
    """Answer each request of a connection, closing it after `times`."""

    def script(connection: Connection) -> None:
        served = 0
        while served != times and connection.read_request():
            connection.sock.sendall(answer)
            served += 1

    return script


def dripping(start: bytes, drop: bytes, every: float = 0.05) -> Script:
    """Answer with `start` at once, then drop by drop for ever."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(start)
        while not connection.stopping.wait(every):
            connection.sock.sendall(drop)

    return script


def hanging(connection: Connection) -> None:
    """Read the request and say nothing."""
    connection.read_request()
    connection.stopping.wait(30)

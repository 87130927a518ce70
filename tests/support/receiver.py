"""A real HTTP receiver on a free port, which remembers its calls."""

import json
import random
import socket
import socketserver
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request; `arrived` is on the machine's clock, in seconds."""

    arrived: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

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


class Receiver(socketserver.ThreadingTCPServer):
    """Answers every call with `status`, `answer` and `headers`.

    That is after `delay` seconds.

    Up to `jitter` seconds more are added at random.
    While `gate` is cleared, calls that have arrived are not answered. One
    that is `deaf` lets nobody connect until it is told to listen.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self, *, deaf: bool = False, host: str = "127.0.0.1"
    ) -> None:
        if deaf:
            self.request_queue_size = 0
        super().__init__((host, 0), _Handler)
        self.status = 200
        self.answer = b""
        self.headers: dict[str, str] = {}
        self.delay = self.jitter = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[Call] = []
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.05,), daemon=True
        )
        self._unheard: list[socket.socket] = []
        if deaf:
            self._fill_queue()
        else:
            self._thread.start()

    def _fill_queue(self) -> None:
        """Connect until the kernel drops who connects next."""
        for _ in range(16):
            client = socket.socket()
            client.settimeout(0.2)
            self._unheard.append(client)
            try:
                client.connect(self.server_address)
            except TimeoutError:
                return
        raise AssertionError("the queue of connections does not fill up")

    def listen(self) -> None:
        """Be deaf no more."""
        for client in self._unheard:
            client.close()
        self._thread.start()

    def url(self, path: str = "/hook") -> str:
        """Return a URL of this receiver."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}{path}"

    def counts(self) -> Counter[str]:
        """Return how often each timer was called."""
        return Counter(call.timer for call in list(self.calls))

    def close(self) -> None:
        """Stop listening; calls that wait at the gate are let go."""
        self.gate.set()
        self.shutdown()
        self.server_close()


class AbsentReceiver(Receiver):
    """Holds its port, and refuses connections until it is to listen."""

    def __init__(self) -> None:
        self._listens = threading.Event()
        super().__init__()

    def server_activate(self) -> None:
        """Leave that to `listen`."""

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve, once there is something to serve."""
        self._listens.wait()
        super().serve_forever(poll_interval)

    def listen(self) -> None:
        """Take connections from now on."""
        super().server_activate()
        self._listens.set()

    def close(self) -> None:
        """Stop listening, for which it has to have begun."""
        self.listen()
        super().close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Receiver

    def handle(self) -> None:
        # A killed worker's connection is reset while it is read.
        with suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        arrived = time.time()
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.calls.append(
            Call(arrived, self.command, self.path, headers, body)
        )
        self.server.gate.wait(60)
        time.sleep(
            self.server.delay + random.uniform(0, self.server.jitter)
        )
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""

"""A real HTTP receiver on a free port, which remembers its calls."""

import json
import socketserver
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request; `arrived` is on the machine's clock, in seconds."""

    arrived: float
    path: str
    headers: dict[str, str]
    payload: dict[str, Any]

    @property
    def timer(self) -> str:
        """The timer's id, from the body."""
        return str(self.payload["id"])

    @property
    def late(self) -> float:
        """Seconds between the timer's time and the call's arrival."""
        due = datetime.fromisoformat(self.payload["timestamp"])
        return self.arrived - due.timestamp()


class Receiver(socketserver.ThreadingTCPServer):
    """Answers every POST with `status`, after `delay` seconds.

    While `gate` is cleared, calls that have arrived are not answered.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.delay = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[Call] = []
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def url(self, path: str = "/hook") -> str:
        """Return a URL of this receiver."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def counts(self) -> Counter[str]:
        """Return how often each timer was called."""
        return Counter(call.timer for call in list(self.calls))

    def close(self) -> None:
        """Stop listening; calls that wait at the gate are let go."""
        self.gate.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Receiver

    def do_POST(self) -> None:
        arrived = time.time()
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.calls.append(
            Call(arrived, self.path, headers, json.loads(body))
        )
        self.server.gate.wait(60)
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""

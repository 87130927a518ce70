"""Receivers of webhooks that send whatever bytes a test wants."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Connection:
    """One accepted connection, with what a script needs to answer it."""

    sock: socket.socket
    stopping: threading.Event
    requests: list[bytes]
    index: int

    def read_request(self) -> bytes:
        """Read a request to its end, b"" if the client has closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sock.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            body += self.sock.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
        self.sock.close()


Script = Callable[[Connection], None]


@dataclass
class MisbehavingReceiver:
    """A server on a free port; `script` plays the part of each connection."""

    script: Script
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    requests: list[bytes] = field(default_factory=list)
    accepted: int = 0
    resumed: int = 0

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server(
            (self.host, 0), family=family, backlog=256
        )
        self.port: int = self._listener.getsockname()[1]
        self.stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def url(self, path: str = "/hook") -> str:
        """Return a URL of this receiver, by address."""
        scheme = "http" if self.tls is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{path}"

    def start(self) -> None:
        """Accept from now on."""
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

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
            thread.start()
            self._threads.append(thread)

    def _serve(self, sock: socket.socket, index: int) -> None:
        with contextlib.suppress(OSError), sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
                self.resumed += bool(sock.session_reused)
            with sock:
                self.script(
                    Connection(sock, self.stopping, self.requests, index)
                )

    def stop(self) -> None:
        """Close everything and wait for the scripts' ends."""
        self.stopping.set()
        # A shutdown wakes accept(); a close alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


@contextmanager
def misbehaving(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Iterator[MisbehavingReceiver]:
    """Run a receiver for the length of a with statement."""
    server = MisbehavingReceiver(script, tls, host)
    server.start()
    try:
        yield server
    finally:
        server.stop()


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

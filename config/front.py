"""The layer between the web server and Django: it reads the bodies.

A thread of Granian reads a body for as long as the client takes to send it.
Such a thread is cheap, so there are many more threads than requests in Django
at once. A client that is too slow loses its connection.
docs/decisions/0015-slow-clients.md has the reasons and the figures.
"""

import io
import json
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from config.slow_clients import LIMIT, SlowClients

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

#: Threads of a web process: one for each request whose body is read, or that
#: waits for its turn.
THREADS = 1024
#: Requests that may have a thread. The other threads are for /livez.
PLACES = THREADS - 64
#: Requests that are in Django at once. They may share a commit.
AT_ONCE = 64


class Front:
    """A WSGI application that passes only whole requests on to another one.

    The other one gets bodies of at most `most` bytes, with their length. A
    longer body is not read to its end; its length says that it is too long.
    `limit` is how long a body may take, in seconds.
    """

    def __init__(
        self,
        application: "WSGIApplication",
        most: int,
        limit: float = LIMIT,
    ) -> None:
        self._application = application
        self._most = most
        self._slow = SlowClients(limit)
        self._places = _tokens(PLACES)
        self._turns = _tokens(AT_ONCE)

    def __call__(
        self, environ: dict[str, Any], start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/livez":
            return self._answer(environ, start_response)
        try:
            self._places.get_nowait()
        except Empty:
            return _refuse(
                start_response, "503 Service Unavailable",
                "Too many requests are under way; try again.",
            )
        try:
            if not self._read_body(environ):
                return _refuse(
                    start_response, "408 Request Timeout",
                    "The body did not arrive whole.",
                )
            self._turns.get()
            try:
                return self._answer(environ, start_response)
            finally:
                self._turns.put(None)
        finally:
            self._places.put(None)

    def _read_body(self, environ: dict[str, Any]) -> bool:
        """Put the body into the environment; return whether it came whole."""
        length = environ.get("CONTENT_LENGTH")
        if "HTTP_TRANSFER_ENCODING" in environ:
            del environ["HTTP_TRANSFER_ENCODING"]
            body = self._slow.read(environ, self._most + 1)
            environ["CONTENT_LENGTH"] = str(len(body))
        elif length and _is_number(length) and 0 < int(length) <= self._most:
            body = self._slow.read(environ, int(length))
            if len(body) < int(length):
                return False
        else:  # there is none, or Django refuses it by its length
            return True
        environ["wsgi.input"] = io.BytesIO(body)
        return True

    def _answer(
        self, environ: dict[str, Any], start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Return the answer in one piece.

        The server sends one piece without the thread. It would hold the
        thread while it sends several.
        """
        answer = self._application(environ, start_response)
        try:
            return [b"".join(answer)]
        finally:
            if hasattr(answer, "close"):
                answer.close()


def _is_number(length: str) -> bool:
    return len(length) <= 18 and length.isascii() and length.isdigit()


def _tokens(count: int) -> SimpleQueue[None]:
    """Return a semaphore that takes a tenth of the time of threading's."""
    tokens: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        tokens.put(None)
    return tokens


def _refuse(
    start_response: "StartResponse", status: str, detail: str
) -> list[bytes]:
    body = json.dumps({"detail": detail, "errors": []}).encode()
    start_response(
        status,
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("Retry-After", "1"),
        ],
    )
    return [body]

"""The layer between the web server and Django: it reads the bodies.

A thread of Granian reads a body for as long as the client takes to send it.
Such a thread is cheap, so there are many more threads than requests in Django
at once. A client that is too slow loses its connection.
docs/decisions/0015-slow-clients.md has the reasons and the figures.
"""

import io
import json
from collections.abc import Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from apps.core import uploads, waits
from config.request_id import chosen
from config.slow_clients import LIMIT, SlowClients

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

#: Requests that may have a thread: their bodies are read, or they wait for
#: their turn.
PLACES = 960
#: Threads of a web process: also for requests that have left their places to
#: wait, and for /livez.
THREADS = PLACES + waits.MOST + 64
#: Requests that are in Django at once. They may share a commit.
AT_ONCE = 64
#: Uploads at once, which are in Django while their bodies come.
UPLOADS = 8


class Front:
    """A WSGI application that passes only whole requests on to another one.

    Uploads are an exception: the other one reads them while they come. It
    gets bodies of at most `most` bytes, with their length. A
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
        self._uploads = _tokens(UPLOADS)
        self._waits = _tokens(waits.MOST)

    def __call__(
        self, environ: dict[str, Any], start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/livez":
            return self._answer(environ, start_response)
        if not _taken(self._places):
            return _refuse(
                environ, start_response, "503 Service Unavailable",
                "Too many requests are under way; try again.",
            )
        if _operation(environ) == uploads.OPERATION:
            return self._upload(environ, start_response)
        if environ["PATH_INFO"].startswith(waits.PREFIX):
            seat = _Seat(self._places, self._waits)
            steps = self._wait(seat, environ, start_response)
            next(steps)
            return steps if seat.is_long else list(steps)
        try:
            if not self._read_body(environ):
                return _too_slow(environ, start_response)
            self._turns.get()
            try:
                return self._answer(environ, start_response)
            finally:
                self._turns.put(None)
        finally:
            self._places.put(None)

    def _upload(
        self, environ: dict[str, Any], start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request whose body Django reads piece by piece.

        A long answer is sent in pieces, and has its place until then.
        """
        if not _taken(self._uploads):
            self._places.put(None)
            return _refuse(
                environ, start_response, "503 Service Unavailable",
                f"{UPLOADS} requests for many timers are under way; try again"
                " when one of them has ended.",
            )
        try:
            with self._slow.upload():
                environ["wsgi.input"] = self._upload_of(environ)
                answer = self._application(environ, start_response)
        except BaseException:
            self._places.put(None)
            raise
        finally:
            self._uploads.put(None)
        return self._until_sent(answer)

    def _until_sent(self, answer: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from self._pieces(answer)
        finally:
            self._places.put(None)

    def _wait(
        self,
        seat: "_Seat",
        environ: dict[str, Any],
        start_response: "StartResponse",
    ) -> Iterator[bytes]:
        """Answer a request that may leave its place, and wait.

        The first piece is empty, and comes once the answer is known. The end
        of the pieces, or of their iterator, frees the seat.
        """
        try:
            if not self._read_body(environ):
                yield b""
                yield from _too_slow(environ, start_response)
                return
            seat.take(self._turns)
            environ[waits.LEAVE] = seat.leave
            answer = self._application(environ, start_response)
            seat.is_long = getattr(answer, "streaming", False)
            yield b""
            yield from self._pieces(answer)
        finally:
            seat.free()

    def _upload_of(self, environ: dict[str, Any]) -> uploads.Upload:
        read = partial(self._slow.read, dict(environ))
        length = environ.get("CONTENT_LENGTH") or "0"
        if "HTTP_TRANSFER_ENCODING" not in environ:
            # Django refuses what is no number.
            return uploads.Upload(read, _is_number(length) and int(length))
        environ["CONTENT_LENGTH"] = str(uploads.MOST + 1)
        return uploads.Upload(read, None)

    def _pieces(self, answer: Iterable[bytes]) -> Iterator[bytes]:
        try:
            for piece in answer:
                with self._slow.sending():
                    yield piece
        finally:
            if hasattr(answer, "close"):
                answer.close()

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


class _Seat:
    """What a request holds: its place and its turn, or that it waits.

    is_long  whether its answer has no end that is known, and comes in pieces
    """

    is_long = False

    def __init__(
        self, places: SimpleQueue[None], waits: SimpleQueue[None]
    ) -> None:
        self._waits = waits
        self._held = [places]

    def take(self, tokens: SimpleQueue[None]) -> None:
        """Hold one more; wait until there is one."""
        tokens.get()
        self._held.append(tokens)

    def leave(self) -> bool:
        """Wait from now on; False if as many do as may."""
        if not _taken(self._waits):
            return False
        self.free()
        self._held.append(self._waits)
        return True

    def free(self) -> None:
        """Give back all that is held."""
        while self._held:
            self._held.pop().put(None)


def _operation(environ: dict[str, Any]) -> tuple[str, str]:
    return environ["REQUEST_METHOD"], environ["PATH_INFO"]


def _is_number(length: str) -> bool:
    return len(length) <= 18 and length.isascii() and length.isdigit()


def _tokens(count: int) -> SimpleQueue[None]:
    """Return a semaphore that takes a tenth of the time of threading's."""
    tokens: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        tokens.put(None)
    return tokens


def _taken(tokens: SimpleQueue[None]) -> bool:
    """Take a token, if there is one."""
    try:
        tokens.get_nowait()
    except Empty:
        return False
    return True


def _too_slow(
    environ: dict[str, Any], start_response: "StartResponse"
) -> list[bytes]:
    return _refuse(
        environ, start_response, "408 Request Timeout",
        "The body did not arrive whole.",
    )


def _refuse(
    environ: dict[str, Any],
    start_response: "StartResponse",
    status: str,
    detail: str,
) -> list[bytes]:
    body = json.dumps({"detail": detail, "errors": []}).encode()
    start_response(
        status,
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("Retry-After", "1"),
            ("X-Request-Id", chosen(environ.get("HTTP_X_REQUEST_ID"))),
        ],
    )
    return [body]

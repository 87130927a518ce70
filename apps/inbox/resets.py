"""A port where inboxes reset connections.

Granian does not tell which connection a request came by, so web can't reset
one. Here each connection is reset: as soon as its call is kept, or when what
comes is no call of an inbox. docs/decisions/0034-inbox.md has the reasons.
"""

import asyncio
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast
from urllib.parse import unquote

import httptools
from django.conf import settings

from apps.core.outages import Outage, describe
from apps.core.reaching import PostgresAway, reaching_postgres
from apps.inbox import storage
from apps.inbox.storage import METHODS, MOST_BODY, NAME, NewCall

#: Open connections, at most. One more is reset immediately.
MOST = 128
#: How long a call may take to come, in seconds.
LIMIT = 10.0
#: A call's bytes, its head and the marks of its chunks included.
_MOST_BYTES = 4 * MOST_BODY
#: Calls that are kept at the same time.
_AT_ONCE = 4
#: Seconds until it tries again to listen.
_AGAIN = 2.0
#: Closing sends a reset, and drops what was not sent (socket(7)).
_RESET = struct.pack("ii", 1, 0)

_NOT_HEARD = Outage(
    "INBOX_RESET_PORT can't be listened on; trying again",
    "INBOX_RESET_PORT is listened on",
)
_NOT_KEPT = Outage("a call of an inbox was not kept")


def start() -> None:
    """Listen in a thread, if there are inboxes and a port."""
    if settings.INBOX and settings.INBOX_RESET_PORT:
        threading.Thread(target=_run, name="inbox resets", daemon=True).start()


def _run() -> None:
    asyncio.run(
        listen(settings.INBOX_RESET_ADDRESS, settings.INBOX_RESET_PORT)
    )


async def listen(host: str, port: int) -> None:
    """Listen for ever."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(_AT_ONCE, "inbox resets") as keepers:
        listener = _Listener(keepers)
        while True:
            try:
                server = await loop.create_server(
                    lambda: _Connection(listener), host, port
                )
            except OSError as error:
                _NOT_HEARD.failed(error=describe(error), host=host, port=port)
                await asyncio.sleep(_AGAIN)
            else:
                _NOT_HEARD.worked()
                await server.serve_forever()


@dataclass(frozen=True, slots=True)
class _Listener:
    """What the connections of a process share."""

    keepers: ThreadPoolExecutor
    connections: "set[_Connection]" = field(default_factory=set)


class _Connection(asyncio.Protocol):
    """A connection: one request is read, and kept if it is a call."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._left = _MOST_BYTES
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = b""
        self._read: _Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read, for a bounded time."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _RESET
        )
        self._deadline = self._loop.call_later(LIMIT, self._transport.abort)
        if len(self._listener.connections) >= MOST:
            self._transport.abort()
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._deadline.cancel()
        self._listener.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Read on; reset what is too long, and what is no HTTP."""
        self._left -= len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()
            return
        if self._left < 0 or len(self._body) > MOST_BODY:
            self._transport.abort()
        elif self._read:
            self._transport.pause_reading()
            self._loop.run_in_executor(
                self._listener.keepers, _keep, self._read
            ).add_done_callback(self._reset)

    def _reset(self, kept: asyncio.Future[None]) -> None:
        self._transport.abort()
        if (error := kept.exception()) is not None:
            _NOT_KEPT.failed(error)

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the path and query."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes twice has both values."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known},{text}"

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._body += piece

    def on_message_complete(self) -> None:
        """Take the first request; others may have come right after it."""
        self._read = self._read or _Request(
            self._parser.get_method().decode(),
            self._target.decode("latin-1"),
            dict(self._headers),
            self._body,
            time.monotonic(),
        )


@dataclass(frozen=True, slots=True)
class _Request:
    """A request, and when it had come, on the monotonic clock."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    came: float


def _keep(request: _Request) -> None:
    """Keep a request that is an inbox's call."""
    path, _, query = request.target.partition("?")
    found = re.fullmatch(f"/inbox/({NAME})", unquote(path))
    if not found or request.method not in METHODS:
        return
    elapsed = timedelta(seconds=time.monotonic() - request.came)
    with suppress(PostgresAway), reaching_postgres():
        storage.keep(
            NewCall(
                found[1], request.method, query, request.headers,
                request.body, elapsed,
            ),
            resets=True,
        )

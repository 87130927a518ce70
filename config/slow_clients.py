"""Hangs up on clients that send a body too slowly.

Granian does not limit the time of a body, and does not say on which
connection it comes. Only the connection's end wakes a thread that waits for a
body. Linux knows of each connection whether anything came since the last
answer.
"""

import contextlib
import json
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)

#: How long a body may take, in seconds.
LIMIT = 10.0
#: While a body takes longer, the connections are looked at; in seconds.
_SLOW = 0.5
_PAUSE = 0.25
#: Milliseconds after which Granian has closed an idle connection: its
#: --http1-header-read-timeout, and some time to spare.
_IDLE_IS_CLOSED = 35_000
# Linux's struct tcp_info up to tcpi_data_segs_out. New fields come at its end.
_TCP_INFO = struct.Struct("@8B24I4Q6I")
_LAST_SENT, _LAST_RECEIVED, _RECEIVED, _SEGMENTS_SENT = 17, 19, 35, 41
_BODY = json.dumps(
    {"detail": f"The body did not arrive within {LIMIT:g} s.", "errors": []}
).encode()
_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class SlowClients:
    """Reads bodies, and ends connections that send a body too slowly.

    It looks at the connections only while there is a slow body. Then it also
    ends one that waits as long for its answer from Django; no answer takes
    that long. On systems other than Linux it ends nothing.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        #: When the reading of each body began.
        self._reading: dict[object, float] = {}
        self._port = 0
        #: When a connection, by its inode, was first seen to be slow.
        self._slow_since: dict[int, float] = {}
        if sys.platform == "linux":
            threading.Thread(
                target=self._watch, name="slow clients", daemon=True
            ).start()

    def read(self, environ: dict[str, Any], most: int) -> bytes:
        """Return the body's first `most` bytes, or as many as came."""
        body = environ["wsgi.input"]
        self._port = environ["SERVER_PORT"]
        self._reading[body] = time.monotonic()
        try:
            return bytes(body.read(most))
        finally:
            del self._reading[body]

    def _watch(self) -> None:
        while True:
            time.sleep(_PAUSE)
            now = time.monotonic()
            oldest = min(list(self._reading.values()), default=now)
            if oldest > now - _SLOW:
                self._slow_since.clear()
                continue
            try:
                self._look(now)
            except Exception:  # the next look may succeed
                logger.exception("slow clients could not be looked for")

    def _look(self, now: float) -> None:
        slow_since = {}
        ended = 0
        for connection in _connections(int(self._port)):
            inode = os.fstat(connection.fileno()).st_ino
            since = self._slow_since.get(inode, now)
            if not _is_unanswered(connection):
                continue
            slow_since[inode] = since
            if since <= now - (self._limit - _SLOW - _PAUSE):
                _hang_up(connection)
                ended += 1
        self._slow_since = slow_since
        if ended:
            logger.info("slow clients hung up on", extra={"clients": ended})


def _connections(port: int) -> Iterator[socket.socket]:
    """Yield this process's connections to its own port.

    Each is a duplicate, which stays valid if the server closes its own.
    """
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), _duplicate(int(name)) as found:
            internet = found.family in {socket.AF_INET, socket.AF_INET6}
            if internet and found.getsockname()[1] == port:
                found.getpeername()  # OSError if it listens
                yield found


def _duplicate(number: int) -> socket.socket:
    """Return a duplicate of a file descriptor; OSError if it is no socket."""
    copy = os.dup(number)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _is_unanswered(connection: socket.socket) -> bool:
    """Return whether something has come since the last answer."""
    try:
        info = _TCP_INFO.unpack(
            connection.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size
            )
        )
    except (OSError, struct.error):  # ended, or an older kernel
        return False
    if not info[_RECEIVED]:
        return False
    # Milliseconds since the last data in each direction
    sent, received = info[_LAST_SENT], info[_LAST_RECEIVED]
    if sent == received and info[_SEGMENTS_SENT]:
        # Both in one tick of the kernel's clock: the connection is idle, or
        # only the head of a request came.
        return bool(sent > _IDLE_IS_CLOSED)
    return bool(received < sent or not info[_SEGMENTS_SENT])


def _hang_up(connection: socket.socket) -> None:
    """Answer in the server's place, and end the connection."""
    with contextlib.suppress(OSError):
        connection.send(_ANSWER, socket.MSG_DONTWAIT)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

"""Hangs up on clients that send a body too slowly.

Granian does not limit the time of a body, and does not say on which
connection it comes. Only the connection's end wakes a thread that waits for a
body. Linux knows of each connection whether anything came since the last
answer.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

#: How long a body may take, in seconds.
LIMIT = 10.0
#: Bytes after which an upload or a long answer may take LIMIT again.
PROGRESS = 64 * 1024
#: While a body takes longer, the connections are looked at; in seconds.
_SLOW = 0.5
_PAUSE = 0.25
#: Milliseconds after which Granian has closed an idle connection: its
#: --http1-header-read-timeout, and some time to spare.
_IDLE_IS_CLOSED = 35_000
# Linux's struct tcp_info up to tcpi_data_segs_out. New fields come at its end.
_TCP_INFO = struct.Struct("@8B24I4Q6I")
_LAST_SENT, _LAST_RECEIVED, _ACKNOWLEDGED, _RECEIVED = 17, 19, 34, 35
_UNSENT, _SEGMENTS_SENT = 38, 41
_BODY = json.dumps(
    {"detail": f"The body did not arrive within {LIMIT:g} s.", "errors": []}
).encode()
_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class _State(NamedTuple):
    """How many bytes a client has sent, or `sends`: taken from the answer."""

    sends: bool
    done: int


class _Slow(NamedTuple):
    """Since when a connection is slow, and how far it was then."""

    since: float
    state: _State


class SlowClients:
    """Reads bodies, and ends connections that send a body too slowly.

    It does the same to clients that don't read a long answer.

    It looks at the connections only while there is a slow body. Then it also
    ends one that waits as long for its answer from Django; no answer takes
    that long, since an upload's last bytes are stored in seconds. On systems
    other than Linux it ends nothing.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        #: When the reading of each body began.
        self._reading: dict[object, float] = {}
        self._port = 0
        #: Uploads that are under way.
        self._uploads: set[object] = set()
        #: The connections that are slow now, by their inodes.
        self._slow: dict[int, _Slow] = {}
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

    @contextlib.contextmanager
    def upload(self) -> Iterator[None]:
        """Let bodies take longer, as long as they make progress."""
        me = object()
        self._uploads.add(me)
        try:
            yield
        finally:
            self._uploads.remove(me)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """End connections whose clients don't read a piece of an answer."""
        me = object()
        self._reading[me] = time.monotonic()
        try:
            yield
        finally:
            del self._reading[me]

    def _watch(self) -> None:
        while True:
            time.sleep(_PAUSE)
            now = time.monotonic()
            oldest = min(list(self._reading.values()), default=now)
            if oldest > now - _SLOW:
                self._slow.clear()
                continue
            try:
                self._look(now)
            except Exception:  # the next look may succeed
                logger.exception("slow clients could not be looked for")

    def _look(self, now: float) -> None:
        slow: dict[int, _Slow] = {}
        ended = 0
        for connection in _connections(int(self._port)):
            found = _state(connection)
            if found is None:
                continue
            inode = os.fstat(connection.fileno()).st_ino
            before = self._slow.get(inode)
            if before is None or self._goes_on(before.state, found):
                before = _Slow(now, found)
            slow[inode] = before
            if before.since <= now - (self._limit - _SLOW - _PAUSE):
                _hang_up(connection, is_answered=found.sends)
                ended += 1
        self._slow = slow
        if ended:
            logger.info(
                "slow clients hung up on", extra={"clients": ended}
            )

    def _goes_on(self, before: _State, now: _State) -> bool:
        """Tell whether a connection has made progress enough."""
        if before.sends != now.sends:
            return True
        may_go_on = now.sends or bool(self._uploads)
        return may_go_on and now.done - before.done >= PROGRESS


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


def _state(connection: socket.socket) -> _State | None:
    """Return how far a client has come; None if it is not its turn."""
    try:
        info = _TCP_INFO.unpack(
            connection.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size
            )
        )
        if _unread(connection):
            return None  # the server is to read it
    except (OSError, struct.error):  # ended, or an older kernel
        return None
    if info[_UNSENT]:
        return _State(True, info[_ACKNOWLEDGED])
    if _is_unanswered(info):
        return _State(False, info[_RECEIVED])
    return None


def _unread(connection: socket.socket) -> int:
    """Return how many bytes have come that the server did not read yet."""
    number = fcntl.ioctl(connection, termios.FIONREAD, bytes(4))
    return int.from_bytes(number, sys.byteorder)


def _is_unanswered(info: tuple[int, ...]) -> bool:
    """Return whether something has come since the last answer."""
    if not info[_RECEIVED]:
        return False
    # Milliseconds since the last data in each direction
    sent, received = info[_LAST_SENT], info[_LAST_RECEIVED]
    if sent == received and info[_SEGMENTS_SENT]:
        # Both in one tick of the kernel's clock: the connection is idle, or
        # only the head of a request came.
        return sent > _IDLE_IS_CLOSED
    return received < sent or not info[_SEGMENTS_SENT]


def _hang_up(connection: socket.socket, *, is_answered: bool) -> None:
    """End the connection, with an answer unless there is one."""
    if not is_answered:
        with contextlib.suppress(OSError):
            connection.send(_ANSWER, socket.MSG_DONTWAIT)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

"""Connections that wait for another call to where they lead."""

import threading
import time
from collections import deque

from apps.webhooks.http.connection import Connection
from apps.webhooks.target import Target

MAX_IDLE_SECONDS = 0.5
"""Receivers close idle connections, some after 1 s, and a request that
crosses with that is lost: stay well away from it."""

MIN_IDLE_SECONDS = 0.05
"""Some close after an answer without having said so: give them the time.

A request that comes before the close is lost unread, with a reset that
proves nothing. That happened to one call in 10 to a receiver that closes
after each answer; it costs rate * MIN_IDLE_SECONDS more connections.
"""

_MAX_IDLE = 256

_Origin = tuple[str, str, int]


class IdleConnections:
    """Keeps connections for a moment; for many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        #: Since when each has waited, in that order.
        self._waiting: deque[tuple[float, _Origin, Connection]] = deque()

    def take(self, target: Target) -> Connection | None:
        """Return the connection that has waited longest, if one may serve.

        It must have waited neither too long nor too short, and be open.
        """
        origin = _origin(target)
        while (connection := self._remove_first(origin)) is not None:
            waited = time.monotonic() - (connection.idle_since or 0.0)
            if waited <= MAX_IDLE_SECONDS and connection.is_quiet():
                return connection
            connection.close()
        return None

    def put(self, target: Target, connection: Connection) -> None:
        """Let a connection wait; close those that have waited too long."""
        with self._lock:
            now = connection.idle_since = time.monotonic()
            self._waiting.append((now, _origin(target), connection))
        self._close_old()

    def close(self) -> None:
        """Close all, and from now on whatever is put."""
        self._closed = True
        self._close_old()

    def _remove_first(self, origin: _Origin) -> Connection | None:
        latest = time.monotonic() - MIN_IDLE_SECONDS
        with self._lock:
            for place, (since, of, connection) in enumerate(self._waiting):
                if since > latest:
                    break
                if of == origin:
                    del self._waiting[place]
                    return connection
        return None

    def _close_old(self) -> None:
        old = []
        with self._lock:
            horizon = time.monotonic() - MAX_IDLE_SECONDS
            while self._waiting and (
                self._closed
                or self._waiting[0][0] < horizon
                or len(self._waiting) > _MAX_IDLE
            ):
                old.append(self._waiting.popleft()[2])
        for connection in old:
            connection.close()


def _origin(target: Target) -> _Origin:
    return target.scheme, target.host, target.port

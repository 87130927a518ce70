"""Idle connections, which wait for another call to the same origin."""

import threading
import time
from collections import deque

from apps.webhooks.http.connection import Connection
from apps.webhooks.target import Origin

MAX_IDLE_SECONDS = 0.5
"""Receivers close idle connections, some after 1 s. A request that crosses
with the close is lost, so stay well below that."""

MIN_IDLE_SECONDS = 0.05
"""Some receivers close after an answer without notice: give them time.

A request that comes before the close is lost unread, with a reset that
proves nothing. That happened to one call in 10 to a receiver that closes
after each answer. The wait costs rate * MIN_IDLE_SECONDS more connections.
"""

_MAX_IDLE = 256


class IdleConnections:
    """Keeps connections for a moment; for many threads at once.

    None is closed or looked at under the lock: both let other threads run,
    and these would queue for the lock. In a burst that cost a fifth of the
    calls.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        #: Since when each connection has waited; the oldest comes first.
        self._waiting: deque[tuple[float, Origin, Connection]] = deque()

    def take(self, origin: Origin) -> Connection | None:
        """Return the connection that has waited longest, if one may serve.

        It is open, and has waited from MIN_ to MAX_IDLE_SECONDS.
        """
        self._close_old()
        while (connection := self._remove_first(origin)) is not None:
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def put(self, origin: Origin, connection: Connection) -> None:
        """Let a connection wait; close those that have waited too long."""
        connection.is_reused = True
        with self._lock:
            self._waiting.append((time.monotonic(), origin, connection))
        self._close_old()

    def close(self) -> None:
        """Close all connections, and from now on each that is put."""
        self._closed = True
        self._close_old()

    def _remove_first(self, origin: Origin) -> Connection | None:
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
        horizon = time.monotonic() - MAX_IDLE_SECONDS
        with self._lock:
            while self._waiting and (
                self._closed
                or self._waiting[0][0] < horizon
                or len(self._waiting) > _MAX_IDLE
            ):
                old.append(self._waiting.popleft()[2])
        for connection in old:
            connection.close()

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
        self._count = 0
        self._by_origin: dict[_Origin, deque[Connection]] = {}
        # The same in the order they came; those taken meanwhile included.
        self._by_age: deque[tuple[float, _Origin]] = deque()

    def take(self, target: Target) -> Connection | None:
        """Return the connection that has waited longest, if one may serve.

        It must have waited neither too long nor too short, and be open.
        """
        origin = _origin(target)
        while True:
            now = time.monotonic()
            with self._lock:
                waiting = self._by_origin.get(origin)
                if not waiting:
                    return None
                since = waiting[0].idle_since or 0.0
                if now - since < MIN_IDLE_SECONDS:
                    return None
                connection = waiting.popleft()
                self._count -= 1
            if now - since <= MAX_IDLE_SECONDS and connection.is_quiet():
                return connection
            connection.close()

    def put(self, target: Target, connection: Connection) -> None:
        """Let a connection wait; close those that have waited too long."""
        since = connection.idle_since = time.monotonic()
        origin = _origin(target)
        with self._lock:
            if self._closed:
                old = [connection]
            else:
                self._by_origin.setdefault(origin, deque()).append(connection)
                self._by_age.append((since, origin))
                self._count += 1
                old = self._remove_old(since - MAX_IDLE_SECONDS)
        for connection in old:
            connection.close()

    def close(self) -> None:
        """Close all, and from now on whatever is put."""
        with self._lock:
            self._closed = True
            old = self._remove_old(float("inf"))
        for connection in old:
            connection.close()

    def _remove_old(self, horizon: float) -> list[Connection]:
        removed = []
        while self._by_age and (
            self._by_age[0][0] < horizon or self._count > _MAX_IDLE
        ):
            since, origin = self._by_age.popleft()
            waiting = self._by_origin.get(origin)
            # Each queue is in order of age too: it is the first, or taken.
            if waiting and waiting[0].idle_since == since:
                removed.append(waiting.popleft())
                self._count -= 1
            if not waiting:
                self._by_origin.pop(origin, None)
        return removed


def _origin(target: Target) -> _Origin:
    return target.scheme, target.host, target.port

"""What goes wrong over and over, told once when it begins and once after."""

import logging
import threading
import time

logger = logging.getLogger(__name__)


class Outage:
    """Logs the first of many failures, and the first success after them.

    A server that is away fails every thread many times a second.
    """

    def __init__(self, begins: str, ends: str) -> None:
        """Take the two sentences to log."""
        self._begins = begins
        self._ends = ends
        self._lock = threading.Lock()
        self._since: float | None = None
        self._ended: float | None = None
        self._failures = 0

    def failed(self, *, count: int = 1, **details: object) -> None:
        """Note failures; the details of the first are logged."""
        with self._lock:
            is_first = self._since is None
            if is_first:
                self._since = time.monotonic()
                self._failures = 0
            self._failures += count
        if is_first:
            logger.warning(self._begins, extra=details)

    def worked(self) -> None:
        """Note a success."""
        if self._since is None:  # nearly always, so without the lock
            return
        with self._lock:
            since, self._since = self._since, None
            self._ended = now = time.monotonic()
        if since is not None:
            logger.info(
                self._ends,
                extra={
                    "after_s": round(now - since, 1),
                    "failures": self._failures,
                },
            )

    def stalled(self) -> None:
        """Note that one has just ended in which nothing failed."""
        with self._lock:
            self._ended = time.monotonic()

    def ended_within(self, seconds: float) -> bool:
        """Tell whether it lasts, or ended no more than so many seconds ago."""
        with self._lock:
            if self._since is not None:
                return True
            ended = self._ended
        return ended is not None and time.monotonic() - ended <= seconds


POSTGRES = Outage(
    "Postgres can't be reached; trying again", "Postgres is back"
)
PUBLISHING = Outage(
    "timers not published; the dispatcher will", "timers are published again"
)

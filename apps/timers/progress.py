"""Whether a worker's threads get on with what waits for them."""

import time

import dramatiq
from django.conf import settings

from apps.monitoring.heartbeat import Sign
from apps.timers.outages import POSTGRES

#: A thread takes so much longer than a call for one message, at most.
_BEYOND_A_CALL = 5.0


class Progress:
    """When a thread of a worker last began or ended with a message."""

    def __init__(self, worker: dramatiq.Worker) -> None:
        # Messages that were fetched, and that no thread has begun with.
        self._waiting = worker.work_queue
        self._moved_at = self._idle_at = time.monotonic()

    def moved(self) -> None:
        """Note that a thread begins or ends with a message."""
        self._moved_at = time.monotonic()

    def sign(self) -> Sign:
        """Return how the threads are: well when nothing waits for them."""
        now = time.monotonic()
        if self._waiting.empty():
            self._idle_at = now
        age = now - max(self._moved_at, self._idle_at)
        if age <= settings.WEBHOOK_TIMEOUT + _BEYOND_A_CALL:
            return Sign()
        if POSTGRES.lasts():
            return Sign(age, "its threads wait for Postgres")
        return Sign(
            age, "its threads hang: none ends a call, while messages wait"
        )

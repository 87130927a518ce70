"""Whether a worker's threads make progress: its callers and consumers."""

import time
from collections.abc import Iterable

import dramatiq
from django.conf import settings

from apps.broker.interface import TimerBroker
from apps.core.outages import POSTGRES
from apps.monitoring import heartbeat
from apps.monitoring.heartbeat import Sign

#: How much longer than a call a thread may take for a message, in seconds.
_BEYOND_A_CALL = 5.0


class Progress:
    """When a thread of a worker last began or finished a message."""

    def __init__(self, worker: dramatiq.Worker) -> None:
        # Fetched messages that no thread has begun.
        self._waiting = worker.work_queue
        self._moved_at = self._idle_at = time.monotonic()

    def moved(self) -> None:
        """Note that a thread begins or finishes a message."""
        self._moved_at = time.monotonic()

    def backlog(self) -> int:
        """Return how many fetched messages wait for a thread."""
        return self._waiting.qsize()

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


class Consuming:
    """When a worker's consumers last looked for messages.

    They look each second, even if there are none or RabbitMQ is away.
    """

    def __init__(self, broker: TimerBroker, queues: Iterable[str]) -> None:
        """Take the broker, and the queues that it has consumers for."""
        self._looked_at = broker.looked_at
        self._queues = tuple(queues)
        self._began_at = time.monotonic()

    def sign(self) -> Sign:
        """Return how the consumers are, by the one that looked longest ago."""
        now = time.monotonic()
        ages = {
            queue: now - self._looked_at.get(queue, self._began_at)
            for queue in self._queues
        }
        hang = sorted(q for q in ages if ages[q] > heartbeat.STALE_AFTER)
        if not hang:
            return Sign()
        return Sign(
            max(ages.values()),
            f"it takes no messages from {', '.join(hang)}: the thread that"
            " consumes it hangs",
        )

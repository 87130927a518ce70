"""What the timers use of the broker: two queues, and what it can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import dramatiq

#: The queue of due timers, and the queue of overdue timers.
ON_TIME = "timers"
OVERDUE = "timers.overdue"


def prefetch_of(queue_name: str, asked: int) -> int:
    """Return how many messages a worker takes before they are done.

    Dramatiq asks for two messages a thread. Overdue timers get a quarter of
    the threads, at least one, so that a backlog of calls that hang can't
    fill a worker.
    """
    if queue_name == OVERDUE:
        return max(1, asked // 8)
    return asked


class TimerBroker(Protocol):
    """What both brokers can do beyond Dramatiq's own; delays are in ms."""

    #: When each queue's consumer last looked for messages, on
    #: `time.monotonic()`.
    looked_at: dict[str, float]

    def enqueue_many(
        self, messages: Sequence[tuple[dramatiq.Message[Any], int]]
    ) -> list[Exception | None]:
        """Publish messages together; return what each failed with."""

    def depth(self, queue_name: str) -> int | None:
        """Return how many messages are ready, None if that is unknown."""

    def is_connected(self) -> bool:
        """Return whether messages can be published now."""

    def forget_topology(self) -> None:
        """Declare every queue again before the next publish."""


def get_broker() -> TimerBroker:
    """Return the broker that the settings chose."""
    return cast(TimerBroker, dramatiq.get_broker())

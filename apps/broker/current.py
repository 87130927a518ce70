"""The broker of this process, as the timers see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import dramatiq


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

"""RabbitMQ, as far as the code under test needs it."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import dramatiq


class RabbitMQ:
    """Stands in for the broker; `clock` is the model's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: Messages by timer, and from when they are delivered.
        self.messages: list[tuple[UUID, float]] = []
        self.refusing: Callable[[], None] | None = None
        self.busy = False

    def depth(self, queue: str) -> int:
        """Say how much is waiting."""
        return 1000 if self.busy else 0

    def forget_topology(self) -> None:
        """Do nothing: no queue can be missing."""

    def enqueue_many(
        self, messages: Sequence[tuple[dramatiq.Message[Any], int]]
    ) -> list[Exception | None]:
        """Take messages, with their delays in ms, or refuse them."""
        if self.refusing is not None:
            self.refusing()
            return [ConnectionError() for _ in messages]
        for message, delay in messages:
            ready = self._clock() + delay / 1000
            self.messages.append((UUID(message.args[0]), ready))
        return [None] * len(messages)

    def take_ready(self) -> list[UUID]:
        """Deliver the messages that are ready; return their timers."""
        now = self._clock()
        ready = [timer for timer, since in self.messages if since <= now]
        self.messages = [m for m in self.messages if m[1] > now]
        return ready

"""Requests of other threads to the link, and their outcomes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from dramatiq.errors import ConnectionClosed

from apps.broker.ladder import Route


def failure(text: str) -> ConnectionClosed:
    """Return the exception for what RabbitMQ did not do."""
    return ConnectionClosed(text)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish; RabbitMQ's management UI shows its id."""

    route: Route
    message_id: str
    body: bytes


class Request:
    """Something that a thread waits for while the link does it."""

    def __init__(self) -> None:
        self._done = threading.Event()
        #: The connection that the link sent it on.
        self.sent_on: object = None

    @property
    def is_done(self) -> bool:
        """Whether the outcome is known."""
        return self._done.is_set()

    def wait(self, timeout: float) -> None:
        """Wait until it is done, for ``timeout`` seconds at most."""
        self._done.wait(timeout)

    def fail(self, error: Exception) -> None:
        """End the request without doing it."""
        self._done.set()


class Batch(Request):
    """Messages published together, and what has become of each."""

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        super().__init__()
        self.messages = messages
        #: None once confirmed. A message without an answer counts as failed.
        self.outcomes: list[Exception | None] = [
            failure("RabbitMQ did not confirm the message in time")
        ] * len(messages)
        self._left = len(messages)

    def settle(self, index: int, outcome: Exception | None) -> None:
        """Note what became of one message. Called once for each."""
        self.outcomes[index] = outcome
        self._left -= 1
        if not self._left:
            self._done.set()

    def fail(self, error: Exception) -> None:
        """Give the whole batch up, unsent."""
        self.outcomes = [error] * len(self.messages)
        super().fail(error)


class DepthQuestion(Request):
    """Asks how many messages are ready in a queue; None if unknown."""

    def __init__(self, queue: str) -> None:
        super().__init__()
        self.queue = queue
        self.answer: int | None = None

    def settle(self, answer: int) -> None:
        """Note the answer."""
        self.answer = answer
        self._done.set()

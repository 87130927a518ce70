"""Publishing with confirms: one connection a process, whatever thread calls.

A daemon thread owns an asynchronous connection (``link.Link``); callers hand
it requests and wait, for a bounded time, until it has settled them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from pika.connection import Parameters

from apps.broker.link import REPLY_SECONDS, Link
from apps.broker.tasks import Batch, DepthQuestion, Outgoing


class Publisher:
    """The process's publishing connection. Every method is thread-safe.

    It connects when first used, reconnects by itself, and starts anew in a
    forked child.
    """

    def __init__(
        self,
        parameters: Parameters,
        queue_type: str,
        targets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Take the queues' type and a function that names the targets."""
        self._parameters = parameters
        self._queue_type = queue_type
        self._targets = targets
        self._lock = threading.Lock()
        self._link: Link | None = None

    def publish(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """Publish all and wait until each is confirmed or has failed.

        Takes about 2 s at most; nearly no time while RabbitMQ is known to be
        away. A failed message may have reached RabbitMQ all the same.
        """
        if not messages:
            return []
        batch = Batch(messages)
        self._live_link().submit(batch)
        # The link keeps the deadline; the margin is for a link that hangs.
        batch.wait(REPLY_SECONDS + 0.5)
        return list(batch.outcomes)

    def depth(self, queue: str) -> int | None:
        """Return the number of ready messages, None if RabbitMQ is away."""
        question = DepthQuestion(queue)
        self._live_link().submit(question)
        question.wait(REPLY_SECONDS + 0.5)
        return question.answer

    def is_connected(self) -> bool:
        """Whether a message published now would probably get through.

        Never waits: the first call in a process only begins to connect.
        """
        return self._live_link().is_usable

    def forget_topology(self) -> None:
        """Declare every queue and exchange again when next needed."""
        link = self._live_link()
        link.loop.add_callback_threadsafe(link.forget_topology)

    def close(self) -> None:
        """Wait a bounded time for unconfirmed messages, and disconnect."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.loop.add_callback_threadsafe(link.stop)
            link.join(REPLY_SECONDS + 1)

    def _live_link(self) -> Link:
        # In a forked child the parent's thread isn't alive.
        link = self._link
        if link is not None and link.is_alive():
            return link
        with self._lock:
            if self._link is None or not self._link.is_alive():
                self._link = Link(
                    self._parameters, self._queue_type, self._targets
                )
                self._link.start()
            return self._link

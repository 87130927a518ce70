"""The Dramatiq broker for RabbitMQ, with the delay ladder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from dramatiq import Message
from dramatiq.broker import Consumer
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from apps.broker import ladder
from apps.broker.channel import Batch, DepthQuestion, Outgoing
from apps.broker.connection import connection_parameters
from apps.broker.consumer import LadderConsumer
from apps.broker.interface import prefetch_of
from apps.broker.link import REPLY_SECONDS, Link
from apps.broker.middleware import middleware

#: How many messages are published at once. Each chunk has a deadline.
CHUNK = 500


class LadderBroker(RabbitmqBroker):
    """Delays messages in RabbitMQ; Dramatiq delays them in worker memory.

    Actors and ``send_with_options(delay=...)`` stay as they are. Nothing
    here waits longer than about 2 s for RabbitMQ, and losing it costs one
    line in the log. Queues and exchanges are declared when first needed.

    All threads publish over one connection, which a thread of its own holds
    (``link.Link``). It connects when first used, reconnects by itself, and
    starts anew in a forked child.

    For the URL see ``apps.broker.connection``. ``queue_type`` is "classic" or
    "quorum", and holds for the target queues. The rungs are classic.
    """

    def __init__(
        self, url: str, *, queue_type: str = "classic"
    ) -> None:
        super().__init__(middleware=middleware(), confirm_delivery=True)
        #: See TimerBroker.
        self.looked_at: dict[str, float] = {}
        self.parameters = [connection_parameters(url)]
        self._queue_type = queue_type
        self._link_lock = threading.Lock()
        self._link: Link | None = None

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Make the queue known, so that workers consume it.

        RabbitMQ hears of it when it is published to or consumed, whatever
        ``ensure`` says. There is no delay queue.
        """
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(
        self, message: Message[Any], *, delay: int | None = None
    ) -> Message[Any]:
        """Publish the message and wait until RabbitMQ has confirmed it.

        The delay is in milliseconds, rounded down to 10. Raises ValueError
        for a delay beyond the horizon. Raises Dramatiq's ConnectionClosed,
        within about 2 s, when RabbitMQ is away or does not take the message.
        The message may have reached RabbitMQ all the same.
        """
        (error,) = self.enqueue_many([(message, delay or 0)])
        if error is not None:
            raise error
        return message

    def enqueue_many(
        self, messages: Sequence[tuple[Message[Any], int]]
    ) -> list[Exception | None]:
        """Publish (message, delay in ms) pairs together.

        Returns what became of each, in their order: None when confirmed,
        else the exception that ``enqueue`` would have raised.
        """
        outcomes: list[Exception | None] = [None] * len(messages)
        outgoing: list[tuple[int, Outgoing]] = []
        for index, (message, delay) in enumerate(messages):
            try:
                route = ladder.route(delay, message.queue_name)
            except ValueError as error:
                outcomes[index] = error
                continue
            self.emit_before("enqueue", message, delay)
            sent = Outgoing(route, message.message_id, message.encode())
            outgoing.append((index, sent))
        for start in range(0, len(outgoing), CHUNK):
            chunk = outgoing[start:start + CHUNK]
            results = self._publish([sent for _, sent in chunk])
            for (index, _), outcome in zip(chunk, results, strict=True):
                outcomes[index] = outcome
                if outcome is None:
                    self.emit_after("enqueue", *messages[index])
        return outcomes

    def _publish(
        self, messages: Sequence[Outgoing]
    ) -> list[Exception | None]:
        """Publish all and wait until each is confirmed or has failed.

        Takes about 2 s at most; nearly no time while RabbitMQ is known to be
        away. A failed message may have reached RabbitMQ all the same.
        """
        batch = Batch(messages)
        self._live_link().submit(batch)
        # The link keeps the deadline; the margin is for a link that hangs.
        batch.wait(REPLY_SECONDS + 0.5)
        return list(batch.outcomes)

    def consume(
        self, queue_name: str, prefetch: int = 1, timeout: int = 5000
    ) -> Consumer:
        """Return a consumer. It connects when iterated, and reconnects.

        ``prefetch`` is what Dramatiq asks for (see ``prefetch_of``), and
        ``timeout`` how long the consumer waits for a message, in ms.
        """
        return LadderConsumer(
            self.parameters[0],
            self._queue_type,
            queue_name,
            prefetch=prefetch_of(queue_name, prefetch),
            timeout_ms=timeout,
            looked_at=self.looked_at,
        )

    def depth(self, queue_name: str) -> int | None:
        """Return how many messages are ready, not counting delayed ones.

        0 if there is no such queue; None, within 2 s, if RabbitMQ can't be
        asked.
        """
        question = DepthQuestion(queue_name)
        self._live_link().submit(question)
        question.wait(REPLY_SECONDS + 0.5)
        return question.answer

    def is_connected(self) -> bool:
        """Whether publishing works now; never waits.

        The first call in a process begins to connect and says False.
        """
        return self._live_link().is_usable

    def forget_topology(self) -> None:
        """Declare everything again before the next publish.

        Call it when messages were lost or came too early: somebody may have
        deleted queues.
        """
        link = self._live_link()
        link.loop.add_callback_threadsafe(link.forget_topology)

    def close(self) -> None:
        """Wait for unconfirmed messages, for 2 s at most, and disconnect."""
        with self._link_lock:
            link, self._link = self._link, None
        if link is not None:
            link.loop.add_callback_threadsafe(link.stop)
            link.join(REPLY_SECONDS + 1)

    def _live_link(self) -> Link:
        """Return the link; start one if there is none, or if it has ended."""
        # In a forked child the parent's thread isn't alive.
        link = self._link
        if link is not None and link.is_alive():
            return link
        with self._link_lock:
            if self._link is None or not self._link.is_alive():
                self._link = Link(
                    self.parameters[0],
                    self._queue_type,
                    lambda: sorted(self.queues),
                )
                self._link.start()
            return self._link

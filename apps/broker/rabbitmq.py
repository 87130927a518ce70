"""The Dramatiq broker for RabbitMQ, with the delay ladder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dramatiq import Message
from dramatiq.broker import Consumer
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from apps.broker import ladder
from apps.broker.connection import connection_parameters
from apps.broker.consumer import LadderConsumer
from apps.broker.middleware import middleware
from apps.broker.names import prefetch_of
from apps.broker.publisher import Publisher
from apps.broker.tasks import Outgoing

#: How many messages are published at once. Each chunk has a deadline.
CHUNK = 500


class LadderBroker(RabbitmqBroker):
    """Delays messages in RabbitMQ; Dramatiq delays them in worker memory.

    Actors and ``send_with_options(delay=...)`` stay as they are. Nothing
    here waits longer than about 2 s for RabbitMQ, and losing it costs one
    line in the log. Queues and exchanges are declared when first needed.

    For the URL see ``apps.broker.connection``. ``queue_type`` is "classic" or
    "quorum", and holds for the target queues. The rungs are classic.
    """

    def __init__(
        self, url: str, *, queue_type: str = "classic"
    ) -> None:
        super().__init__(middleware=middleware(), confirm_delivery=True)
        #: See TimerBroker.
        self.looked_at: dict[str, float] = {}
        parameters = connection_parameters(url)
        self.parameters = [parameters]
        self._queue_type = queue_type
        self._publisher = Publisher(
            parameters, queue_type, lambda: sorted(self.queues)
        )

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
            results = self._publisher.publish([sent for _, sent in chunk])
            for (index, _), outcome in zip(chunk, results, strict=True):
                outcomes[index] = outcome
                if outcome is None:
                    self.emit_after("enqueue", *messages[index])
        return outcomes

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
        return self._publisher.depth(queue_name)

    def is_connected(self) -> bool:
        """Whether publishing works now; never waits.

        The first call in a process begins to connect and says False.
        """
        return self._publisher.is_connected()

    def forget_topology(self) -> None:
        """Declare everything again before the next publish.

        Call it when messages were lost or came too early: somebody may have
        deleted queues.
        """
        self._publisher.forget_topology()

    def close(self) -> None:
        """Wait for unconfirmed messages, for 2 s at most, and disconnect."""
        self._publisher.close()

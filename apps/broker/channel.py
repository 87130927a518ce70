"""What threads ask of RabbitMQ, and the channel that publishes for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dramatiq.errors import ConnectionClosed
from pika import DeliveryMode
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.frame import Method
from pika.spec import Basic, BasicProperties, Queue

from apps.broker import ladder
from apps.broker.topology import Declarer, Refusals

#: Persistent messages survive a restart of RabbitMQ. So timers are on time
#: after it, and do not wait for the sweep.
DELIVERY_MODE = DeliveryMode.Persistent

#: Seconds until a message that no queue took is published again. Either its
#: queue was deleted, or another client is declaring it. RabbitMQ 4.0 then
#: tells us that the binding is there some milliseconds before it is in force.
_AGAIN_SECONDS = 0.05

_NOT_FOUND = 404


def failure(text: str) -> ConnectionClosed:
    """Return the exception for what RabbitMQ did not do."""
    return ConnectionClosed(text)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish; RabbitMQ's management UI shows its id."""

    route: ladder.Route
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
        self.answer: int | None = None
        self._queue = queue

    def ask(self, connection: Connection) -> None:
        """Ask on a channel of its own.

        RabbitMQ closes the channel if there is no such queue.
        """
        channel = connection.channel(on_open_callback=self._on_open)
        channel.add_on_close_callback(self._on_closed)

    def _on_open(self, channel: Channel) -> None:
        def answer(frame: Method[Queue.DeclareOk]) -> None:
            self._settle(frame.method.message_count)
            channel.close()

        channel.queue_declare(self._queue, passive=True, callback=answer)

    def _on_closed(self, _: Channel, reason: Exception) -> None:
        if getattr(reason, "reply_code", None) == _NOT_FOUND:
            self._settle(0)
        elif not self.is_done:
            self.fail(reason)

    def _settle(self, answer: int) -> None:
        self.answer = answer
        self._done.set()


@dataclass(slots=True)
class _Sent:
    """One message of a batch, published for the first or the second time."""

    batch: Batch
    index: int
    is_again: bool = False

    @property
    def message(self) -> Outgoing:
        return self.batch.messages[self.index]

    def settle(self, outcome: Exception | None) -> None:
        self.batch.settle(self.index, outcome)


class PublishingChannel:
    """Publishes batches on one channel, and settles them as it is confirmed.

    Only the link's thread uses it.
    """

    def __init__(
        self,
        channel: Channel,
        loop: IOLoop,
        queue_type: str,
        refusals: Refusals,
        on_confirm: Callable[[], None],
    ) -> None:
        """Take a function to call after each confirm."""
        self.connection = channel.connection
        self.declarer = Declarer(channel, queue_type, refusals)
        self._channel = channel
        self._loop = loop
        self._refusals = refusals
        self._confirmed = on_confirm
        # By delivery tag, in the order published.
        self._unconfirmed: dict[int, _Sent] = {}
        self._last_tag = 0
        # Ids of messages that no queue took: RabbitMQ returns them first and
        # then confirms them.
        self._returned: set[str] = set()
        # Messages that were returned, until they are published again.
        self._held: list[_Sent] = []

    @property
    def is_settled(self) -> bool:
        """Whether every message is settled."""
        return not self._unconfirmed and not self._held

    def prepare(
        self, targets: Iterable[str], on_ready: Callable[[], None]
    ) -> None:
        """Declare the target queues and ask for confirms."""
        self._channel.add_on_return_callback(self._on_return)
        # Before the rungs, since the number of queues may be limited.
        for queue in targets:
            self.declarer.target(queue)
        self._channel.confirm_delivery(
            self._on_confirm, callback=lambda _: on_ready()
        )

    def publish(self, batch: Batch) -> None:
        """Publish a batch; its messages are settled later."""
        for index in range(len(batch.messages)):
            self._publish(_Sent(batch, index))

    def give_up(self, error: Exception) -> None:
        """Fail what is not settled."""
        unsettled = [*self._unconfirmed.values(), *self._held]
        self._unconfirmed, self._held = {}, []
        for sent in unsettled:
            sent.settle(error)

    def _publish(self, sent: _Sent) -> None:
        if not self._channel.is_open:
            # Sending can notice that the connection broke.
            sent.settle(failure("RabbitMQ is away"))
        elif (route := self._way(sent.message)) is None:
            sent.settle(failure("RabbitMQ refuses every rung"))
        else:
            self.declarer.route(route)
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = sent
            self._send(sent.message, route)

    def _publish_later(self, sent: _Sent) -> None:
        if not self._held:
            self._loop.call_later(_AGAIN_SECONDS, self._publish_held)
        sent.is_again = True
        self._held.append(sent)

    def _publish_held(self) -> None:
        held, self._held = self._held, []
        for sent in held:
            self._publish(sent)

    def _way(self, message: Outgoing) -> ladder.Route | None:
        missing = self._refusals.missing
        if missing and any(r.queue in missing for r in message.route.rungs):
            return ladder.detour(message.route, missing)
        return message.route

    def _send(self, message: Outgoing, route: ladder.Route) -> None:
        self._channel.basic_publish(
            route.exchange,
            route.routing_key,
            message.body,
            BasicProperties(
                message_id=message.message_id, delivery_mode=DELIVERY_MODE
            ),
            mandatory=True,
        )

    def _on_return(
        self,
        _: Channel,
        __: Basic.Return,
        properties: BasicProperties,
        ___: bytes,
    ) -> None:
        if properties.message_id is not None:
            self._returned.add(properties.message_id)
            self.declarer.forget()

    def _on_confirm(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        confirm = frame.method
        is_ack = isinstance(confirm, Basic.Ack)
        tags = self._unconfirmed
        if confirm.multiple:
            while tags and (tag := next(iter(tags))) <= confirm.delivery_tag:
                self._settle(tag, is_ack)
        elif confirm.delivery_tag in tags:
            self._settle(confirm.delivery_tag, is_ack)
        self._confirmed()

    def _settle(self, tag: int, is_ack: bool) -> None:
        sent = self._unconfirmed.pop(tag)
        message_id = sent.message.message_id
        if message_id in self._returned:
            self._returned.discard(message_id)
            if sent.is_again:
                sent.settle(failure("No queue took the message"))
            else:
                self._publish_later(sent)
        elif is_ack:
            sent.settle(None)
        else:
            sent.settle(failure("RabbitMQ refused the message"))

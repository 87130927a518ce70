"""Consuming from RabbitMQ over a connection that heals by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pika
from dramatiq import Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import DecodeError
from pika.adapters.blocking_connection import (
    BlockingChannel,
    BlockingConnection,
)
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from apps.broker.connection import one_line, outage_of, retry_pause
from apps.broker.middleware import is_left
from apps.broker.topology import Declarer, Refusals

logger = logging.getLogger(__name__)

#: How long closing a connection may take, in seconds.
CLOSE_SECONDS = 2.0

# pika also raises AssertionError when a connection breaks while it sends
# (Dramatiq's own consumer expects that as well). When connecting takes too
# long, it raises an exception that is no AMQPError.
_BROKEN = (AMQPError, AMQPConnectorException, OSError, AssertionError)


class _Link:
    """A channel, and the messages to settle on it.

    Worker threads settle messages, but pika must send from the consumer's
    thread. That thread is woken once for all they settle before it wakes.
    """

    def __init__(self, channel: BlockingChannel) -> None:
        self.channel = channel
        self._tags: deque[tuple[int, bool]] = deque()
        self._is_woken = False

    def settle(self, tag: int, *, accepted: bool) -> None:
        """Acknowledge or reject a message, unless the link is gone."""
        self._tags.append((tag, accepted))
        if self._is_woken:
            return
        self._is_woken = True
        try:
            self.channel.connection.add_callback_threadsafe(self._send)
        except AMQPError:
            # The connection is gone, so RabbitMQ delivers the message again.
            logger.debug("Not settled: the connection is gone")

    def _send(self) -> None:
        # This comes first: what is settled from now on wakes the thread again
        # and is left for then. Otherwise messages could wait for as long as
        # others are settled.
        self._is_woken = False
        # The channel behind pika's blocking one. The blocking one's methods
        # send each frame by itself, and read and poll meanwhile.
        channel = self.channel._impl  # type: ignore[attr-defined]
        for _ in range(len(self._tags)):
            tag, accepted = self._tags.popleft()
            if accepted:
                channel.basic_ack(tag)
            else:
                channel.basic_nack(tag, requeue=False)


class Delivery(MessageProxy):
    """A message together with the link that it came on.

    Delivery tags start at 1 on each channel. An acknowledgement sent on
    another connection than the message's own would hit another message,
    which then is never delivered again.
    """

    def __init__(self, message: Message[Any], link: _Link, tag: int) -> None:
        super().__init__(message)
        self.link = link
        self.tag = tag


class LadderConsumer(Consumer):
    """Iterates over a queue's messages, None when there is none for a while.

    A lost connection or a deleted queue ends nothing: the consumer connects
    and declares again, with pauses, and logs one line for the loss and one
    for the recovery. (Dramatiq's own consumer ends; its thread makes a new
    one and logs two lines for every attempt.)
    """

    def __init__(
        self,
        parameters: pika.connection.Parameters,
        queue_type: str,
        queue_name: str,
        *,
        prefetch: int,
        timeout_ms: int,
        looked_at: dict[str, float],
    ) -> None:
        self._parameters = parameters
        self._queue_type = queue_type
        self._queue_name = queue_name
        self._prefetch = prefetch
        self._timeout = timeout_ms / 1000
        self._looked_at = looked_at
        self._refusals = Refusals()
        self._outage = outage_of(f"consuming {queue_name}")
        self._connection: BlockingConnection | None = None
        self._deliveries: Iterator[tuple[Any, Any, bytes | None]] = iter(())
        self._link: _Link | None = None
        self._retry_at = 0.0

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None; never raises for an outage."""
        message = self._take()
        self._looked_at[self._queue_name] = time.monotonic()
        return message

    def _take(self) -> MessageProxy | None:
        try:
            link = self._link or self._open()
            if link is None:
                return None
            method, _, body = next(self._deliveries)
        except StopIteration:
            self._drop("the queue was deleted")
            return None
        except _BROKEN as error:
            self._drop(error)
            return None
        if method is None or body is None:
            return None
        return self._decode(link, method.delivery_tag, body)

    def _decode(
        self, link: _Link, tag: int, body: bytes
    ) -> MessageProxy | None:
        try:
            return Delivery(Message.decode(body), link, tag)
        except DecodeError:
            logger.error(
                "message can't be decoded, set aside",
                extra={"queue": self._queue_name},
            )
            link.settle(tag, accepted=False)
            return None

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge, unless the message's connection is gone."""
        if isinstance(message, Delivery):
            message.link.settle(message.tag, accepted=True)

    def nack(self, message: MessageProxy) -> None:
        """Reject the message, which goes to the queue's dead letters.

        A message whose actor raised LeaveUnacknowledged is left alone.
        """
        if isinstance(message, Delivery) and not is_left(message):
            message.link.settle(message.tag, accepted=False)

    def close(self) -> None:
        """Send what was settled and disconnect, within about 2 s."""
        connection, self._connection = self._connection, None
        self._link = None
        if connection is None:
            return
        # pika's close() waits for an answer without a bound.
        closer = threading.Thread(
            target=_close, args=(connection,), daemon=True
        )
        closer.start()
        closer.join(CLOSE_SECONDS)

    def _open(self) -> _Link | None:
        pause = self._retry_at - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, 0.1))  # Short, so that a worker can stop.
            return None
        self._connection = BlockingConnection(self._parameters)
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=self._prefetch)
        Declarer(channel, self._queue_type, self._refusals).target(
            self._queue_name
        )
        self._deliveries = channel.consume(
            self._queue_name, inactivity_timeout=self._timeout
        )
        self._link = _Link(channel)
        self._outage.worked()
        return self._link

    def _drop(self, reason: object) -> None:
        if isinstance(reason, BaseException):
            self._refusals.note(reason)
        self._outage.failed(one_line(reason))
        self._retry_at = time.monotonic() + retry_pause()
        self.close()


def _close(connection: BlockingConnection) -> None:
    try:
        # Callbacks run in order, so after this one the others are done.
        flushed = threading.Event()
        connection.add_callback_threadsafe(flushed.set)
        while not flushed.is_set():
            connection.process_data_events(0.01)
        connection.close()
    except _BROKEN:
        logger.debug("The connection was gone before it was closed")

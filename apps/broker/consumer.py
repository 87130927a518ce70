"""Consuming from RabbitMQ over a connection that heals by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
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

from apps.broker.connection import OutageLog, retry_pause
from apps.broker.middleware import is_left
from apps.broker.topology import Declarer, Refusals

logger = logging.getLogger(__name__)

#: How long closing a connection may take, in seconds.
CLOSE_SECONDS = 2.0

# pika raises AssertionError, too, when a connection breaks while it sends
# (Dramatiq's own consumer expects that as well), and an exception that is
# no AMQPError when connecting takes too long.
_LOSSES = (AMQPError, AMQPConnectorException, OSError, AssertionError)


class Delivery(MessageProxy):
    """A message together with the channel that it came on.

    Delivery tags start at 1 on each channel. An acknowledgement sent on
    another connection than the message's own would hit another message,
    which then is never delivered again.
    """

    def __init__(
        self, message: Message[Any], channel: BlockingChannel, tag: int
    ) -> None:
        super().__init__(message)
        self.channel = channel
        self.tag = tag


class LadderConsumer(Consumer):
    """Iterates over a queue's messages, None when there is none for a while.

    A lost connection or a deleted queue ends nothing: the consumer connects
    and declares again, with pauses, and logs one line for the loss and one
    for the recovery. (Dramatiq's own would be made anew by its thread, with
    two lines for every attempt.)
    """

    def __init__(
        self,
        parameters: pika.connection.Parameters,
        queue_type: str,
        queue_name: str,
        *,
        prefetch: int,
        timeout_ms: int,
    ) -> None:
        self._parameters = parameters
        self._queue_type = queue_type
        self._queue_name = queue_name
        self._prefetch = prefetch
        self._timeout = timeout_ms / 1000
        self._refusals = Refusals()
        self._outage = OutageLog(f"consuming {queue_name}")
        self._connection: BlockingConnection | None = None
        self._deliveries: Iterator[tuple[Any, Any, bytes | None]] = iter(())
        self._channel: BlockingChannel | None = None
        self._retry_at = 0.0

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None; never raises for an outage."""
        try:
            channel = self._channel or self._open()
            if channel is None:
                return None
            method, _, body = next(self._deliveries)
        except StopIteration:
            self._lose("the queue was deleted")
            return None
        except _LOSSES as error:
            self._lose(error)
            return None
        if method is None or body is None:
            return None
        return self._decode(channel, method.delivery_tag, body)

    def _decode(
        self, channel: BlockingChannel, tag: int, body: bytes
    ) -> MessageProxy | None:
        try:
            return Delivery(Message.decode(body), channel, tag)
        except DecodeError:
            logger.error(
                "message can't be decoded, set aside",
                extra={"queue": self._queue_name},
            )
            self._settle(
                channel, partial(channel.basic_nack, tag, requeue=False)
            )
            return None

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge, unless the message's connection is gone."""
        if isinstance(message, Delivery):
            self._settle(
                message.channel,
                partial(message.channel.basic_ack, message.tag),
            )

    def nack(self, message: MessageProxy) -> None:
        """Set the message aside in the queue's dead letters.

        What an actor left with LeaveUnacknowledged is left alone.
        """
        if isinstance(message, Delivery) and not is_left(message):
            self._settle(
                message.channel,
                partial(
                    message.channel.basic_nack, message.tag, requeue=False
                ),
            )

    @staticmethod
    def _settle(channel: BlockingChannel, call: Callable[[], None]) -> None:
        # Worker threads settle messages; pika wants that done in the
        # consumer's thread.
        try:
            channel.connection.add_callback_threadsafe(call)
        except AMQPError:
            # The connection is gone, so RabbitMQ delivers the message again.
            logger.debug("Not settled: the connection is gone")

    def close(self) -> None:
        """Send what was settled and disconnect, within about 2 s."""
        connection, self._connection = self._connection, None
        self._channel = None
        if connection is None:
            return
        # pika's close() waits for an answer without a bound.
        closer = threading.Thread(
            target=_close, args=(connection,), daemon=True
        )
        closer.start()
        closer.join(CLOSE_SECONDS)

    def _open(self) -> BlockingChannel | None:
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
        self._channel = channel
        self._outage.up()
        return channel

    def _lose(self, reason: object) -> None:
        if isinstance(reason, BaseException):
            self._refusals.note(reason)
        self._outage.down(reason)
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
    except _LOSSES:
        logger.debug("The connection was gone before it was closed")

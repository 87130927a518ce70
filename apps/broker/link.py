"""The thread that owns the publishing connection."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Parameters

from apps.broker.channel import (
    Batch,
    DepthQuestion,
    PublishingChannel,
    Request,
    failure,
)
from apps.broker.connection import (
    CONNECT_SECONDS,
    one_line,
    outage_of,
    retry_pause,
)
from apps.broker.topology import LadderBuilder, Refusals

logger = logging.getLogger(__name__)

#: How long RabbitMQ has to confirm a batch or to answer, in seconds. After
#: that the outcome is unknown, which counts as failed.
REPLY_SECONDS = 2.0

#: How long messages wait for the ladder to be built, in seconds.
LADDER_SECONDS = 0.5


class Link(threading.Thread):
    """Owns the connection and carries out requests, in an event loop.

    Other threads use ``submit``, ``is_usable`` and
    ``loop.add_callback_threadsafe`` only; all else runs in this thread.
    """

    def __init__(
        self,
        parameters: Parameters,
        queue_type: str,
        targets: Callable[[], Iterable[str]],
    ) -> None:
        """Take the queues' type and a function that names the targets."""
        super().__init__(name="broker-publisher", daemon=True)
        self.loop = IOLoop()
        #: Whether the connection is open and not blocked by an alarm.
        self.is_usable = False
        self._parameters = parameters
        self._queue_type = queue_type
        self._targets = targets
        self._refusals = Refusals()
        self._builder = LadderBuilder(
            self.loop, self._refusals, self._begin, self._on_ladder
        )
        self._is_blocked = False
        self._outage = outage_of("publishing")
        self._connection: pika.SelectConnection | None = None
        # A channel that is ready; `_begin` puts it to use.
        self._ready: PublishingChannel | None = None
        self._channel: PublishingChannel | None = None
        self._attempted_at = 0.0
        # After a failed attempt requests fail at once, and don't wait for
        # the next attempt.
        self._is_failing = False
        self._is_stopping = False
        self._waiting: list[Request] = []

    def submit(self, request: Request) -> None:
        """Hand in a request. Any thread may call this."""
        self.loop.add_callback_threadsafe(partial(self._accept, request))

    def run(self) -> None:
        """Connect and serve until stopped."""
        try:
            self._connect()
            self.loop.start()
        except Exception:
            # The broker starts a new link when it is next used.
            logger.exception("the publishing thread failed")
        finally:
            self.is_usable = False
            self.loop.close()

    # Connecting

    def _connect(self) -> None:
        if self._is_stopping:
            return
        self._attempted_at = time.monotonic()
        connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_closed,
            on_close_callback=self._on_closed,
            custom_ioloop=self.loop,
        )
        self._connection = connection
        # pika's own bound does not cover the opening of the channel.
        self.loop.call_later(
            CONNECT_SECONDS + 0.5, partial(self._check_open, connection)
        )

    def _check_open(self, connection: pika.SelectConnection) -> None:
        if connection is self._connection and self._ready is None:
            self._drop("it does not answer", is_failing=True)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        if connection is not self._connection:
            connection.close()
            return
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        publishing = PublishingChannel(
            channel,
            self.loop,
            self._queue_type,
            self._refusals,
            self._on_confirm,
        )
        publishing.prepare(
            self._targets(), lambda: self._on_ready(publishing)
        )

    def _on_ready(self, channel: PublishingChannel) -> None:
        if channel.connection is not self._connection:
            return
        self._ready = channel
        self._builder.build(channel.connection)
        # Most of the time the ladder exists already, and that is known before
        # LADDER_SECONDS are over. Messages do not wait for all of a new one.
        self.loop.call_later(LADDER_SECONDS, self._begin)

    def _begin(self) -> None:
        """Publish, from now on, over the channel that is ready."""
        if self._ready is None or self._channel is not None:
            return
        self._channel = self._ready
        self._is_failing = False
        if not self._is_blocked:
            self.is_usable = True
            self._outage.worked()
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._carry_out(request)

    def _on_ladder(self) -> None:
        # Until now each message's rungs were declared right before it.
        self._begin()
        if self._channel is not None:
            self._channel.declarer.assume_rungs()

    # Losing the connection

    def _on_closed(
        self, connection: pika.connection.Connection, reason: BaseException
    ) -> None:
        if connection is self._connection:
            self._drop(reason, is_failing=self._channel is None)

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        if channel.connection is self._connection:
            self._refusals.note(reason)
            self._drop(reason)

    def _on_blocked(self, _: object, __: object) -> None:
        # A memory or disk alarm. RabbitMQ reads nothing more from this
        # connection, not even its end. If we dropped it, RabbitMQ would hold
        # it until the alarm is over, and each one after it. So we keep it,
        # and callers fail at once.
        self.is_usable = False
        self._is_blocked = True
        self._give_up(
            self._channel, "it blocks publishers (memory or disk alarm)"
        )

    def _on_unblocked(self, _: object, __: object) -> None:
        self._is_blocked = False
        if self._channel is not None:
            self.is_usable = True
            self._outage.worked()

    def _drop(self, reason: object, *, is_failing: bool = False) -> None:
        """Forget the connection, fail what is unsettled, connect again."""
        connection, self._connection = self._connection, None
        channel, self._channel, self._ready = self._channel, None, None
        self._is_blocked = False
        self.is_usable = False
        self._is_failing = is_failing
        if connection is not None and not (
            connection.is_closing or connection.is_closed
        ):
            # In a black hole this ends when heartbeats are missed.
            connection.close()
        if self._is_stopping:
            self.loop.stop()
        self._give_up(channel, reason)
        is_flapping = time.monotonic() - self._attempted_at < 1
        pause = retry_pause() if is_failing or is_flapping else 0
        self.loop.call_later(pause, self._connect)

    def _give_up(
        self, channel: PublishingChannel | None, reason: object
    ) -> None:
        """Fail what the channel has not confirmed, and what waits for one."""
        if not self._is_stopping:
            self._outage.failed(one_line(reason))
        error = failure(f"RabbitMQ is away: {reason}")
        if channel is not None:
            channel.give_up(error)
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.fail(error)

    # Requests

    def _accept(self, request: Request) -> None:
        is_known_away = self._channel is not None and not self.is_usable
        if self._is_failing or self._is_stopping or is_known_away:
            request.fail(failure("RabbitMQ is away"))
            return
        if self.is_usable:
            self._carry_out(request)
        else:
            self._waiting.append(request)
        self.loop.call_later(REPLY_SECONDS, partial(self._check, request))

    def _check(self, request: Request) -> None:
        """Give up a request whose time is over."""
        if request.is_done:
            return
        if request in self._waiting:
            self._waiting.remove(request)
            request.fail(failure("RabbitMQ is away"))
        elif request.sent_on is self._connection:
            self._drop("it does not answer", is_failing=True)

    def _carry_out(self, request: Request) -> None:
        """Do what is asked for, once `_begin` has run."""
        request.sent_on = self._connection
        if self._channel is None or self._connection is None:
            # An earlier request noticed that the connection broke.
            request.fail(failure("RabbitMQ is away"))
        elif isinstance(request, Batch):
            self._channel.publish(request)
        elif isinstance(request, DepthQuestion):
            request.ask(self._connection)

    def _on_confirm(self) -> None:
        if self._is_stopping and self._is_settled():
            self._disconnect()

    def _is_settled(self) -> bool:
        return self._channel is None or self._channel.is_settled

    def forget_topology(self) -> None:
        """Declare everything again when it is next needed."""
        channel = self._channel or self._ready
        if channel is not None:
            channel.declarer.forget()

    # Stopping

    def stop(self) -> None:
        """Disconnect once everything is confirmed, or after 2 s."""
        self._is_stopping = True
        if self._is_settled():
            self._disconnect()
        else:
            self.loop.call_later(REPLY_SECONDS, self._disconnect)

    def _disconnect(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_open:
            # _on_closed then ends the loop; in a black hole, call_later does.
            connection.close()
            self.loop.call_later(0.5, self.loop.stop)
        else:
            self.loop.stop()

"""Declaring the whole ladder, except for rungs that RabbitMQ refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

from apps.broker import ladder
from apps.broker.connection import one_line
from apps.broker.topology import Declarer, Refusals

logger = logging.getLogger(__name__)

#: Seconds until refused rungs are tried again, and logged again.
AGAIN = 60.0


class LadderBuilder:
    """Declares all rungs on other channels than the one that publishes.

    RabbitMQ closes the channel at the first rung that it refuses, so the next
    ones are declared on another channel. A new queue takes RabbitMQ a
    millisecond.
    """

    def __init__(
        self,
        loop: IOLoop,
        refusals: Refusals,
        on_refused: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        """Take functions to call at a round's first refusal and at its end."""
        self._loop = loop
        self._refusals = refusals
        self._on_refused = on_refused
        self._on_end = on_end
        self._connection: pika.connection.Connection | None = None
        self._left: list[ladder.Rung] = []
        self._refused: dict[str, str] = {}

    def build(self, connection: pika.connection.Connection) -> None:
        """Declare the ladder, and try refused rungs again."""
        self._connection = connection
        self._left = list(ladder.rungs())
        self._refused = {}
        self._open(connection)

    def _open(self, connection: pika.connection.Connection) -> None:
        channel = connection.channel(on_open_callback=self._declare)
        channel.add_on_close_callback(self._on_closed)

    def _declare(self, channel: Channel) -> None:
        # Without callbacks: see DeclaringChannel.
        Declarer(channel, "classic", self._refusals).rungs(self._left)
        # RabbitMQ carries methods out in order. Its answer to this one shows
        # that the rungs are declared.
        channel.basic_qos(
            prefetch_count=1, callback=lambda _: self._finish(channel)
        )

    def _finish(self, channel: Channel) -> None:
        self._left.clear()
        if channel.is_open:
            channel.close()

    def _on_closed(self, channel: Channel, reason: Exception) -> None:
        connection = channel.connection
        if connection is not self._connection or not connection.is_open:
            return
        name = self._refusals.note(reason)
        names = [rung.queue for rung in self._left]
        if name in names:
            del self._left[:names.index(name)]
            if name in self._refusals.missing:
                self._skip(name, self._refusals.missing[name])
        elif names:
            logger.error(
                "RabbitMQ refuses the ladder",
                extra={"reason": one_line(reason)},
            )
            return
        if self._left:
            self._open(connection)
        else:
            self._end(connection)

    def _skip(self, name: str, reason: str) -> None:
        """Skip a refused rung, which is the first one left."""
        if not self._refused:
            # Messages use none of the rest until it has been tried.
            self._refusals.missing |= {
                rung.queue: reason for rung in self._left
            }
            self._on_refused()
        self._refused[name] = reason
        del self._left[0]

    def _end(self, connection: pika.connection.Connection) -> None:
        had_missing = bool(self._refusals.missing)
        self._refusals.missing = dict(self._refused)
        self._on_end()
        if self._refused:
            logger.warning(
                "RabbitMQ refuses rungs of the ladder; timers go without "
                "them, and may be late",
                extra={
                    "rungs": f"{len(self._refused)} of {len(ladder.rungs())}",
                    "reason": next(iter(self._refused.values())),
                },
            )
            self._loop.call_later(AGAIN, lambda: self._again(connection))
        elif had_missing:
            logger.info("RabbitMQ has every rung of the ladder again")

    def _again(self, connection: pika.connection.Connection) -> None:
        if connection is self._connection and connection.is_open:
            self.build(connection)

"""Declaring the ladder's exchanges and queues, as far as RabbitMQ lets us.

A channel declares what it needs, when it needs it. The builder declares the
whole ladder beforehand, on channels of its own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker

from apps.broker import ladder
from apps.broker.connection import one_line

logger = logging.getLogger(__name__)

#: Seconds until refused rungs are tried again, and logged again.
AGAIN = 60.0

_ACCESS_REFUSED = 403
_PRECONDITION_FAILED = 406
_RUNGS = frozenset(rung.queue for rung in ladder.rungs())


class DeclaringChannel(Protocol):
    """What both kinds of pika channel can do.

    A BlockingChannel waits for each answer. The asynchronous one, called
    without callbacks, sends "no-wait" methods: RabbitMQ carries them out in
    order, before what is published next, and closes the channel on an error.
    """

    def exchange_declare(
        self,
        exchange: str,
        *,
        exchange_type: Any,
        durable: bool,
        arguments: Any,
    ) -> object:
        """See pika."""

    def queue_declare(
        self, queue: str, *, durable: bool, arguments: Any
    ) -> object:
        """See pika."""

    def queue_bind(
        self, queue: str, exchange: str, routing_key: str
    ) -> object:
        """See pika."""


class Refusals:
    """What RabbitMQ refuses to declare.

    RabbitMQ may hold a name with other arguments than ours (406). The name is
    used as it is: timers may be late, and the log says so. Declaring it again
    and again would close every connection.

    A rung is ``missing`` if it may not be declared, since the number of queues
    is limited (406) or the user lacks the permission (403). Messages then take
    another way.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        #: The queues of rungs that messages avoid, and why.
        self.missing: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def note(self, error: BaseException) -> str | None:
        """Remember what the error refuses; return its name, if it has one."""
        if not isinstance(error, ChannelClosedByBroker):
            return None
        if error.reply_code not in (_ACCESS_REFUSED, _PRECONDITION_FAILED):
            return None
        found = re.search(r"(?:queue|exchange) '([^']+)'", error.reply_text)
        if not found:
            return None
        name = found[1]
        if "inequivalent" in error.reply_text:
            self._names.add(name)
            logger.error(
                "RabbitMQ holds this with other arguments: it is used as it "
                "is; delete it there and restart to have it right",
                extra={"declared": name, "error": error.reply_text},
            )
        elif name in _RUNGS:
            self.missing[name] = error.reply_text
        return name


class Declarer:
    """Declares what a channel needs and remembers it for that channel.

    Everything is durable, and every queue names its type.
    """

    def __init__(
        self,
        channel: DeclaringChannel,
        queue_type: str,
        refusals: Refusals,
    ) -> None:
        self._channel = channel
        self._queue_type = queue_type
        self._refusals = refusals
        self._declared: set[str] = set()
        self._was_forgotten = False

    def forget(self) -> None:
        """Declare everything again when it is next needed."""
        self._declared.clear()
        self._was_forgotten = True

    def assume_rungs(self) -> None:
        """Count every rung as declared: another channel has declared it.

        After forget() that is uncertain: the rungs may be gone again.
        """
        if not self._was_forgotten:
            self._declared |= _RUNGS

    def route(self, route: ladder.Route) -> None:
        """Declare what a message on this route passes through."""
        if route.queue not in self._declared:
            self.target(route.queue)
        for rung in route.rungs:
            if rung.queue not in self._declared:
                self._rung(rung)

    def rungs(self, rungs: Iterable[ladder.Rung]) -> None:
        """Declare rungs, even if they were declared before."""
        self._exchanges()
        for rung in rungs:
            self._rung(rung)

    def target(self, queue: str) -> None:
        """Declare the exchanges and a target queue with its dead letters."""
        self._exchanges()
        self._queue(
            ladder.dead_letter_queue(queue),
            ladder.dead_letter_arguments(self._queue_type),
        )
        self._queue(queue, ladder.target_arguments(queue, self._queue_type))
        self._channel.queue_bind(
            queue, ladder.TARGET, ladder.target_binding_key(queue)
        )
        self._declared.add(queue)

    def _exchanges(self) -> None:
        for name, arguments in ladder.EXCHANGES.items():
            if name not in self._declared and name not in self._refusals:
                self._channel.exchange_declare(
                    name,
                    exchange_type="topic",
                    durable=True,
                    arguments=arguments,
                )
            self._declared.add(name)

    def _rung(self, rung: ladder.Rung) -> None:
        self._queue(rung.queue, rung.arguments)
        self._channel.queue_bind(rung.queue, rung.exchange, rung.binding_key)
        self._declared.add(rung.queue)

    def _queue(self, name: str, arguments: Mapping[str, str | int]) -> None:
        if name not in self._refusals:
            self._channel.queue_declare(
                name, durable=True, arguments=arguments
            )


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
        self._connection: Connection | None = None
        self._left: list[ladder.Rung] = []
        self._refused: dict[str, str] = {}

    def build(self, connection: Connection) -> None:
        """Declare the ladder, and try refused rungs again."""
        self._connection = connection
        self._left = list(ladder.rungs())
        self._refused = {}
        self._open(connection)

    def _open(self, connection: Connection) -> None:
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
                extra={"error": one_line(reason)},
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

    def _end(self, connection: Connection) -> None:
        had_missing = bool(self._refusals.missing)
        self._refusals.missing = dict(self._refused)
        self._on_end()
        if self._refused:
            logger.warning(
                "RabbitMQ refuses rungs of the ladder; timers go without "
                "them, and may be late",
                extra={
                    "rungs": f"{len(self._refused)} of {len(ladder.rungs())}",
                    "error": next(iter(self._refused.values())),
                },
            )
            self._loop.call_later(AGAIN, lambda: self._again(connection))
        elif had_missing:
            logger.info("RabbitMQ has every rung of the ladder again")

    def _again(self, connection: Connection) -> None:
        if connection is self._connection and connection.is_open:
            self.build(connection)

"""Declaring the ladder's exchanges and queues on a channel, on demand."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Protocol

from pika.exceptions import ChannelClosedByBroker

from apps.broker import ladder

logger = logging.getLogger(__name__)

_PRECONDITION_FAILED = 406


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
    """Names that RabbitMQ holds with other arguments than ours (406).

    Such a queue is used as it is: that costs lateness, and the log says so,
    while declaring it again and again would close every connection.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def note(self, error: BaseException) -> None:
        """Remember and log the name, if that is what the error is about."""
        if not isinstance(error, ChannelClosedByBroker):
            return
        if error.reply_code != _PRECONDITION_FAILED:
            return
        found = re.search(
            r"for (?:queue|exchange) '([^']+)'", error.reply_text
        )
        if found:
            self._names.add(found[1])
            logger.error(
                "RabbitMQ holds this with other arguments: it is used as it "
                "is; delete it there and restart to have it right",
                extra={"declared": found[1], "reason": error.reply_text},
            )


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

    def forget(self) -> None:
        """Declare everything again when it is next needed."""
        self._declared.clear()

    def route(self, route: ladder.Route) -> None:
        """Declare what a message on this route passes through."""
        if route.queue not in self._declared:
            self.target(route.queue)
        for rung in route.rungs:
            if rung.queue not in self._declared:
                self._rung(rung)

    def rungs(self) -> None:
        """Declare every rung.

        Queues that are new take RabbitMQ a millisecond each, for which
        the messages that need them would have to wait.
        """
        self._exchanges()
        for rung in ladder.rungs():
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

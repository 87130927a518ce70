"""Declaring the ladder's exchanges and queues on a channel, on demand."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pika.exceptions import ChannelClosedByBroker

from apps.broker import ladder

logger = logging.getLogger(__name__)

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
                extra={"declared": name, "reason": error.reply_text},
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

    def forget(self) -> None:
        """Declare everything again when it is next needed."""
        self._declared.clear()

    def assume_rungs(self) -> None:
        """Count every rung as declared: another channel has declared it."""
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

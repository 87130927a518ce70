"""The Dramatiq middleware of both brokers, listed explicitly.

Dramatiq's defaults are left out on purpose. TimeLimit and Shutdown raise
asynchronous exceptions, which would hit a group commit; Retries and AgeLimit
would decide what a timer's row decides. Actors therefore have no
``max_retries``, ``max_age`` or ``time_limit`` option.
"""

from __future__ import annotations

from typing import Any

from dramatiq import Actor, Broker, Middleware
from dramatiq.broker import MessageProxy

#: The option that says that a message is left. It is never published.
_LEFT = "left_unacknowledged"


class LeaveUnacknowledged(Exception):
    """Raised by an actor whose process stops before it could do its work.

    Its message is neither acknowledged nor rejected: RabbitMQ delivers it
    again when the connection closes, and the memory broker forgets it.
    """


class Settlement(Middleware):
    """Rejects messages that failed; without Retries, nothing else does."""

    def before_declare_actor(
        self, broker: Broker, actor: Actor[Any, Any]
    ) -> None:
        """Expect LeaveUnacknowledged from every actor."""
        # Dramatiq logs what an actor "throws" in one line, without traceback.
        actor.options.setdefault("throws", LeaveUnacknowledged)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Reject the message if its actor raised anything."""
        if isinstance(exception, LeaveUnacknowledged):
            message.options[_LEFT] = True
        if exception is not None:
            message.fail()


def middleware() -> list[Middleware]:
    """Return new instances of the middleware, for a broker's constructor."""
    return [Settlement()]


def is_left(message: MessageProxy) -> bool:
    """Whether the message is to be neither acknowledged nor rejected."""
    return _LEFT in message.options

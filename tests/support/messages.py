"""Messages as the service's actor takes them."""

from typing import Any

from dramatiq import Message


def message(key: object, queue: str = "timers") -> Message[Any]:
    """Return a message whose only argument is the key."""
    return Message(
        queue_name=queue,
        actor_name="fire",
        args=(key,),
        kwargs={},
        options={},
    )

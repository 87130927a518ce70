"""The messages that make a worker fire a timer."""

from uuid import UUID

from dramatiq import Message

from apps.broker.interface import ON_TIME, OVERDUE

#: The names of the actors, each of which has a queue of its own.
FIRE_TIMER = "fire_timer"
FIRE_OVERDUE_TIMER = "fire_overdue_timer"


def message_for(timer_id: UUID, *, overdue: bool = False) -> Message[None]:
    """Return the message that makes a worker fire the timer."""
    return Message(
        queue_name=OVERDUE if overdue else ON_TIME,
        actor_name=FIRE_OVERDUE_TIMER if overdue else FIRE_TIMER,
        args=(str(timer_id),),
        kwargs={},
        options={},
    )

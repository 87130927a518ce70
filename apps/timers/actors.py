"""The two Dramatiq actors: shells around `firing.fire`.

They differ in their queue and in nothing else. A priority belongs to an
actor and a prefetch to a queue, so a backlog of overdue timers needs both
of its own, not to delay the timers that are on time.
"""

from uuid import UUID

import dramatiq

from apps.broker import prefetch
from apps.timers import firing

ON_TIME_QUEUE = prefetch.ON_TIME
OVERDUE_QUEUE = prefetch.OVERDUE


@dramatiq.actor(queue_name=ON_TIME_QUEUE, priority=0)
def fire_timer(timer_id: str) -> None:
    """Fire a timer that is due now, within the lead."""
    firing.fire(UUID(timer_id))


@dramatiq.actor(queue_name=OVERDUE_QUEUE, priority=10)
def fire_overdue_timer(timer_id: str) -> None:
    """Fire a timer whose time passed before it could be queued."""
    firing.fire(UUID(timer_id))


def message_for(
    timer_id: UUID, *, overdue: bool = False
) -> "dramatiq.Message[None]":
    """Return the message that has a worker fire the timer."""
    actor = fire_overdue_timer if overdue else fire_timer
    return actor.message(str(timer_id))

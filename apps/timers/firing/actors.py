"""The two Dramatiq actors: shells around `fire.fire`.

They differ only in their queue and priority. A priority belongs to an actor,
and a prefetch to a queue. So overdue timers have an actor and a queue of their
own: a backlog of them must not delay the timers that are on time.
"""

from uuid import UUID

import dramatiq

from apps.broker.interface import ON_TIME, OVERDUE
from apps.timers.firing import fire
from apps.timers.scheduling.messages import FIRE_OVERDUE_TIMER, FIRE_TIMER


@dramatiq.actor(actor_name=FIRE_TIMER, queue_name=ON_TIME, priority=0)
def fire_timer(timer_id: str) -> None:
    """Fire a timer that is due now, within the lead."""
    fire.fire(UUID(timer_id))


@dramatiq.actor(
    actor_name=FIRE_OVERDUE_TIMER, queue_name=OVERDUE, priority=10
)
def fire_overdue_timer(timer_id: str) -> None:
    """Fire a timer whose time passed before it could be queued."""
    fire.fire(UUID(timer_id))

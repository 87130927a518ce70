"""Publishing near timers to RabbitMQ, off the path of any request.

A message only names the actor that fires its timer, so that publishing knows
no actor.
"""

import logging
import time
from collections.abc import Sequence
from multiprocessing.util import Finalize
from uuid import UUID

from django.conf import settings
from dramatiq import Message

from apps.broker.interface import ON_TIME, OVERDUE, get_broker
from apps.core.batching import BackgroundWriter, GroupCommit
from apps.core.outages import PUBLISHING, TROUBLES
from apps.core.processes import PerProcess
from apps.monitoring.metrics.catalogue import PUBLISH_FAILURES
from apps.timers.storage import claiming, queueing
from apps.timers.storage.records import DueMessage

logger = logging.getLogger(__name__)

#: How many timers may wait to be published. The dispatcher publishes the rest.
MOST_WAITING = 20_000
#: Of these, the most that may wait because of one request for many.
MOST_AT_ONCE = 1_000
#: How long a worker waits for a timer to be sent on, in seconds.
_PATIENCE = 5.0
#: How long they are still published when the process ends, in seconds.
_LAST_PUBLISHING = 3.0
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


def outgoing(timers: Sequence[DueMessage]) -> list[tuple[Message[None], int]]:
    """Return each timer's message and its delay in ms, minus half the lead."""
    now = time.monotonic()
    lead = claiming.LEAD.total_seconds() / 2
    return [
        (
            message_for(timer.id, overdue=timer.overdue),
            max(0, int((timer.at - now - lead) * 1000)),
        )
        for timer in timers
    ]


def publish(timers: Sequence[DueMessage]) -> int:
    """Publish timers that are stored as queued; return how many went out.

    A timer whose message was not confirmed is queued no more, so that the
    dispatcher queues it again. If that fails too, the sweep finds it. If the
    broker raises, no timer is queued any more, and its error is raised again.
    """
    if not timers:
        return 0
    try:
        failures = get_broker().enqueue_many(outgoing(timers))
    except Exception:
        _unqueue([timer.id for timer in timers])
        raise
    unsent = [
        timer.id
        for timer, failure in zip(timers, failures, strict=True)
        if failure is not None
    ]
    if unsent:
        _unqueue(unsent)
    else:
        PUBLISHING.worked()
    return len(timers) - len(unsent)


def send_back(timer: DueMessage) -> None:
    """Publish again a timer that was delivered before its time."""
    if timer.at - time.monotonic() > queueing.HORIZON.total_seconds():
        queueing.unqueue([timer.id])
    else:
        # A message comes early when a rung was missing.
        get_broker().forget_topology()
        publish([timer])


def send_on(timer: DueMessage) -> None:
    """Publish anew a timer that a caller has moved, for the time it has now.

    Nothing is published if another message is on its way, or if it is far.
    Raises TimeoutError if that takes too long.
    """
    _moved.submit(timer, timeout=_PATIENCE)


def _send_on(timers: Sequence[DueMessage]) -> list[None]:
    moved = {timer.id: timer for timer in timers}
    if settings.RABBITMQ_URL:
        publish(queueing.take_back(list(moved)))
    else:
        latest = time.monotonic() + queueing.HORIZON.total_seconds()
        publish([each for each in moved.values() if each.at < latest])
    return [None] * len(timers)


#: Timers that are moved again and again have many messages that come early.
_moved: GroupCommit[DueMessage, None] = GroupCommit(_send_on)


def _unqueue(timer_ids: Sequence[UUID]) -> None:
    """Store that timers are queued no more, if possible; never raise."""
    PUBLISH_FAILURES.add(len(timer_ids))
    PUBLISHING.failed(count=len(timer_ids), first=timer_ids[0])
    try:
        queueing.unqueue(timer_ids)
    except Exception as error:  # the sweep finds them as they are
        logger.warning(
            "timers stay queued without a message; the sweep will find them",
            extra={"error": str(error).strip()},
        )


def publish_later(*timers: DueMessage) -> None:
    """Publish timers that are stored as queued, without a wait.

    If too many wait already, the rest is queued no more.
    """
    writer = publisher()
    left = [timer.id for timer in timers if not writer.add(timer)]
    if left:
        _unqueue(left)


def takes_many(count: int) -> bool:
    """Tell whether `count` more timers would hold up nobody else's."""
    return publisher().waiting() + count <= MOST_AT_ONCE


def _publish_all(timers: Sequence[DueMessage]) -> None:
    """Publish timers, or queue them no more; never raise."""
    try:
        publish(timers)
    except Exception as error:
        TROUBLES.note("publishing", "publishing failed", error)
    else:
        TROUBLES.worked("publishing")


@PerProcess
def publisher() -> BackgroundWriter[DueMessage, DueMessage]:
    """Return the writer that publishes timers, started on first use."""
    started = BackgroundWriter(
        _publish_all,
        # A timer that was moved meanwhile may have several messages. Threads
        # add them in any order, so none may replace another one.
        key=lambda timer: timer,
        name="publisher",
        room=MOST_WAITING,
    )
    # Granian forks its workers, and before Python 3.14 the end of a forked
    # process runs the finalizers of multiprocessing, but not those of atexit.
    Finalize(None, _close, [started], exitpriority=10)
    return started


def _close(started: BackgroundWriter[DueMessage, DueMessage]) -> None:
    """Publish what waits; what is left in the end is queued no more."""
    if left := started.close(_LAST_PUBLISHING):
        _unqueue([timer.id for timer in left])

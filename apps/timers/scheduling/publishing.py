"""Publishing near timers to RabbitMQ, off the path of any request."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.util import Finalize
from uuid import UUID

from dramatiq import Message

from apps.broker.current import get_broker
from apps.core.outages import PUBLISHING, TROUBLES
from apps.core.per_process import PerProcess
from apps.timers.scheduling.messages import message_for
from apps.timers.storage import claiming, queueing
from apps.timers.storage.records import DueMessage

logger = logging.getLogger(__name__)

#: How many timers may wait to be published. The dispatcher publishes the rest.
MOST_WAITING = 20_000
#: Of these, the most that may wait because of one request for many.
MOST_AT_ONCE = 1_000
_BATCH = 500


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
    """Publish timers that are marked as queued; return how many went out.

    A timer whose message was not confirmed loses its mark, so that the
    dispatcher queues it again. If that fails too, the sweep finds it. If the
    broker raises, all timers lose their marks, and its error is raised again.
    """
    if not timers:
        return 0
    try:
        failures = get_broker().enqueue_many(outgoing(timers))
    except Exception:
        _give_back([timer.id for timer in timers])
        raise
    unsent = [
        timer.id
        for timer, failure in zip(timers, failures, strict=True)
        if failure is not None
    ]
    if unsent:
        _give_back(unsent)
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


def _give_back(timer_ids: Sequence[UUID]) -> None:
    """Clear queue marks, if that can be done; never raise."""
    PUBLISHING.failed(count=len(timer_ids), first=timer_ids[0])
    try:
        queueing.unqueue(timer_ids)
    except Exception as error:  # the sweep needs no mark to be cleared
        logger.warning(
            "queue marks not cleared; the sweep will find the timers",
            extra={"error": str(error).strip()},
        )


class Publisher:
    """One thread that publishes what was submitted, in batches.

    A caller never waits for RabbitMQ. A timer that does not fit, or is still
    unpublished at the end, loses its queue mark instead.
    """

    def __init__(self) -> None:
        self._waiting: deque[DueMessage] = deque()
        self._news = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name="publisher", daemon=True
        )
        self._thread.start()

    def submit(self, timer: DueMessage) -> None:
        """Take a stored timer that is marked as queued, to publish it soon."""
        with self._news:
            accepted = (
                len(self._waiting) < MOST_WAITING and not self._stopping
            )
            if accepted:
                self._waiting.append(timer)
                self._news.notify()
        if not accepted:
            _give_back([timer.id])

    def takes_many(self, count: int) -> bool:
        """Tell whether so many timers would hold up nobody else's."""
        with self._news:
            return len(self._waiting) + count <= MOST_AT_ONCE

    def submit_all(self, timers: Sequence[DueMessage]) -> None:
        """Take many stored timers, as `submit` takes one."""
        with self._news:
            room = max(0, MOST_WAITING - len(self._waiting))
            if self._stopping:
                room = 0
            accepted, others = timers[:room], timers[room:]
            self._waiting.extend(accepted)
            self._news.notify()
        if others:
            _give_back([timer.id for timer in others])

    def close(self, timeout: float = 3.0) -> None:
        """Publish what is waiting, for `timeout` seconds at most."""
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join(timeout)
        with self._news:
            left = [timer.id for timer in self._waiting]
            self._waiting.clear()
        if left:
            _give_back(left)

    def _next_batch(self) -> list[DueMessage]:
        """Wait for timers; an empty list means that it is time to end."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._stopping)
            size = min(len(self._waiting), _BATCH)
            return [self._waiting.popleft() for _ in range(size)]

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                publish(batch)
            except Exception as error:  # the thread must outlive any batch
                TROUBLES.note("publishing", "publishing failed", error)
                _give_back([timer.id for timer in batch])
            else:
                TROUBLES.worked("publishing")


@PerProcess
def publisher() -> Publisher:
    """Return this process's publisher, started on first use."""
    started = Publisher()
    # Granian forks its workers, and before Python 3.14 the end of a forked
    # process runs the finalizers of multiprocessing, but not those of atexit.
    Finalize(None, started.close, exitpriority=10)
    return started

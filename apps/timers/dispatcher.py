"""The dispatcher: moves timers to RabbitMQ as they come near.

One pass does everything that is to be done at that moment, in bounded
batches; `recover_timers` runs one, `dispatch_timers` one after another.
Any number of dispatchers may run: rows that one is marking are skipped by
the others.
"""

import logging
from dataclasses import dataclass

from apps.broker.current import get_broker
from apps.timers import store
from apps.timers.actors import ON_TIME_QUEUE, OVERDUE_QUEUE
from apps.timers.models import Outcome
from apps.timers.outages import POSTGRES
from apps.timers.publishing import publish

logger = logging.getLogger(__name__)

_BATCH = 500
#: Queues with no more than so many messages count as empty.
_NEARLY_EMPTY = 50
#: With so many overdue timers in RabbitMQ, workers have enough to do: more
#: would only compete with them, and wait as well in Postgres.
_ENOUGH = 10_000


@dataclass
class Pass:
    """What one pass did, in timers."""

    overdue: int = 0
    near: int = 0
    lost: int = 0
    taken_over: int = 0
    #: Whether overdue timers were left for a later pass: there is enough.
    more: bool = False
    #: None of the above but the last was tried: RabbitMQ is away.
    rabbitmq_away: bool = False

    @property
    def queued(self) -> int:
        """How many timers were published."""
        return self.overdue + self.near + self.lost


def run_once() -> Pass:
    """Do one pass and return what it did.

    Raises `database.UNAVAILABLE` when Postgres is away. While RabbitMQ is
    away nothing is marked as queued.
    """
    done = Pass(taken_over=take_over())
    depths = [get_broker().depth(q) for q in (ON_TIME_QUEUE, OVERDUE_QUEUE)]
    known = [depth for depth in depths if depth is not None]
    if len(known) < len(depths):
        done.rabbitmq_away = True
        return done
    _promote(done, room=_ENOUGH - known[1])
    _sweep(done, idle=sum(known) <= _NEARLY_EMPTY)
    return done


def _promote(done: Pass, *, room: int) -> None:
    """Queue what is near and, as far as there is room, what is overdue."""
    more = True
    while more:
        near = store.promote(overdue=False, limit=_BATCH)
        overdue = []
        if done.overdue < room:
            overdue = store.promote(overdue=True, limit=_BATCH)
        else:
            done.more = True
        sent_near, sent_overdue = publish(near), publish(overdue)
        done.near += sent_near
        done.overdue += sent_overdue
        # A batch that did not all go out ends the pass: RabbitMQ has
        # trouble, and the rows are unmarked again.
        more = len(near) == sent_near and len(overdue) == sent_overdue
        more = more and _BATCH in (len(near), len(overdue))


def _sweep(done: Pass, *, idle: bool) -> None:
    """Queue again what RabbitMQ seems to have lost."""
    while True:
        lost = store.lost(idle=idle, limit=_BATCH)
        if lost:
            # Whatever lost the messages may have lost queues as well.
            get_broker().forget_topology()
        sent = publish(lost)
        done.lost += sent
        if sent < _BATCH:
            return


def take_over() -> int:
    """End or open again every claim whose lease has ended; count them.

    None soon after this process could not reach Postgres, or had no answer
    from it for long: it may be that nobody had, and then marks and answers
    are still on their way.
    """
    if POSTGRES.ended_within(store.SETTLE.total_seconds()):
        return 0
    count = 0
    while True:
        ended = store.take_over(limit=_BATCH)
        for timer_id, outcome in ended:
            _log_taken_over(str(timer_id), outcome)
        count += len(ended)
        if len(ended) < _BATCH:
            return count


def _log_taken_over(timer_id: str, outcome: Outcome | None) -> None:
    if outcome is None:
        sentence = "worker lost before the call; timer fires again"
    elif outcome is Outcome.UNKNOWN:
        sentence = "worker lost after the request had left; not sent again"
    else:
        sentence = "timer given up: it was lost with each worker"
    logger.warning(sentence, extra={"timer": timer_id})

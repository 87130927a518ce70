"""The dispatcher: moves timers to RabbitMQ as they come near.

One pass does everything that is due at that moment, in bounded batches.
`recover_timers` runs one pass, `dispatch_timers` runs one after another. Any
number of dispatchers may run: each skips the rows that another is queueing.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress

from apps.broker.interface import ON_TIME, OVERDUE, get_broker
from apps.core.outages import POSTGRES, RABBITMQ_AWAY
from apps.timers import counting, decisions
from apps.timers.models import Outcome
from apps.timers.scheduling import holding
from apps.timers.scheduling.publishing import publish
from apps.timers.scheduling.sharing import MOST, Sharing
from apps.timers.scheduling.steps import Steps, without_end
from apps.timers.storage import queueing, recording, taking_over
from apps.timers.storage.claim_records import Postponement, Report
from apps.timers.storage.holding import Hold
from apps.timers.storage.records import DueMessage

logger = logging.getLogger(__name__)

_BATCH = 500
#: Queues with this many messages or fewer count as empty.
_NEARLY_EMPTY = 50
#: The most overdue timers that are in RabbitMQ at a time. These keep workers
#: busy. To queue more would take processor time from the calls
#: (docs/decisions/0012).
_ENOUGH = 10_000

_sharing = Sharing(promote=True)


@dataclass
class Pass:
    """What one pass did, in timers."""

    overdue: int = 0
    near: int = 0
    lost: int = 0
    taken_over: int = 0
    #: Whether overdue timers were left for a later pass: RabbitMQ has enough.
    more: bool = False
    #: Whether some of these are shared out: the next pass begins soon.
    shares: bool = field(default=False, compare=False)
    #: Nothing was queued: RabbitMQ is away.
    rabbitmq_away: bool = False
    #: Nothing was queued: the operator holds all calls.
    hold: Hold | None = None
    #: It was over before everything was done: the next pass begins at once.
    unfinished: bool = False
    #: The steps that failed, each with its error; the others were done.
    failed: dict[str, str] = field(default_factory=dict)
    #: How many messages waited in RabbitMQ for a worker, if that is known.
    backlog: int | None = field(default=None, compare=False)
    #: How many timers RabbitMQ did not take.
    unsent: int = field(default=0, compare=False)

    @property
    def queued(self) -> int:
        """How many timers were published."""
        return self.overdue + self.near + self.lost

    @property
    def troubles(self) -> list[str]:
        """What kept the pass from doing all of its work."""
        found = [f"{name}: {error}" for name, error in self.failed.items()]
        if self.rabbitmq_away:
            found.append(RABBITMQ_AWAY)
        if self.unsent:
            found.append("RabbitMQ does not take what is published")
        return found


def run_once(is_over: Callable[[], bool] = without_end) -> Pass:
    """Do one pass and return what it did.

    Each step does one batch at least, even if others fail. Once `is_over()`,
    no step does another batch. Raises `database.UNAVAILABLE` when Postgres is
    away. While RabbitMQ is away, or calls are held, nothing is queued.
    """
    done = Pass()
    steps = Steps("a step of the dispatcher failed; it does the others")
    done.failed = steps.failed
    steps.run("freeing what is stuck", taking_over.free_stuck)
    taken_over = steps.run("taking over", partial(take_over, is_over))
    done.taken_over = taken_over or 0
    depths = steps.run("asking RabbitMQ", _depths)
    if depths is None:
        done.rabbitmq_away = True
        return done
    done.backlog = sum(depths)
    done.hold = steps.run("looking for a hold", holding.current)
    if done.hold is not None:
        return done
    _promote(done, steps, is_over, room=_ENOUGH - depths[1])
    if done.more or done.unfinished:
        steps.run("looking for small backlogs", _sharing.look)
        done.shares = _sharing.goes_on
    idle = sum(depths) <= _NEARLY_EMPTY
    steps.run("looking for what is lost", partial(_sweep, done, is_over, idle))
    return done


def _depths() -> list[int] | None:
    """Return how many messages are ready in the two queues, if known."""
    depths = [get_broker().depth(q) for q in (ON_TIME, OVERDUE)]
    known = [depth for depth in depths if depth is not None]
    return known if len(known) == len(depths) else None


def _promote(
    done: Pass, steps: Steps, is_over: Callable[[], bool], *, room: int
) -> None:
    """Queue what is near and, as far as there is room, what is overdue."""

    def near() -> bool:
        batch = queueing.promote(overdue=False, limit=_BATCH)
        done.near += _publish(done, batch)
        return len(batch) == _BATCH

    def overdue() -> bool:
        if done.overdue >= room:
            done.more = True
            return False
        # While some are shared out, neither way waits long for the other.
        limit = MOST if _sharing.goes_on else _BATCH
        batch = queueing.promote(overdue=True, limit=limit)
        done.overdue += _publish(done, batch)
        return len(batch) == limit

    left = {"queueing what is near": near, "queueing what is overdue": overdue}
    while left:
        left = {
            name: step for name, step in left.items() if steps.run(name, step)
        }
        steps.run("queueing small backlogs", partial(_share, done))
        # RabbitMQ has trouble: what it did not take is not queued.
        if done.unsent:
            return
        if is_over():
            done.unfinished = bool(left)
            return


def _share(done: Pass) -> None:
    """Queue overdue timers of accounts that have few, before the others."""
    done.overdue += _publish(done, _sharing.next())


def _publish(done: Pass, batch: Sequence[DueMessage]) -> int:
    sent = publish(batch)
    done.unsent += len(batch) - sent
    return sent


def _sweep(done: Pass, is_over: Callable[[], bool], idle: bool) -> None:
    """Queue again what RabbitMQ seems to have lost."""
    while True:
        lost = queueing.lost(idle=idle, limit=_BATCH)
        if lost:
            # Where messages were lost, queues may be lost as well.
            get_broker().forget_topology()
        sent = _publish(done, lost)
        done.lost += sent
        if sent < _BATCH:
            return
        if is_over():
            done.unfinished = True
            return


def take_over(is_over: Callable[[], bool] = without_end) -> int:
    """Take over every claim whose lease has ended; return how many.

    It takes over none soon after this process could not reach Postgres, or
    waited long for an answer. Other processes may have had the same trouble:
    then their marks and answers are still on their way. Once `is_over()`, the
    rest is left.
    """
    count = 0
    left = [_take_over_unanswered, _take_over_answered]
    while left:
        for step in tuple(left):
            if POSTGRES.ended_within(taking_over.SETTLE.total_seconds()):
                return count
            done = step()
            count += done
            if done < _BATCH:
                left.remove(step)
        if is_over():
            break
    return count


def _take_over_unanswered() -> int:
    ended = taking_over.take_over(limit=_BATCH)
    for timer_id, outcome in ended:
        counting.taken_over(outcome)
        _log_taken_over(str(timer_id), outcome)
    return len(ended)


def _take_over_answered() -> int:
    """Do what dead workers would have done with their answers."""
    found = [
        decisions.of_the_dead(each)
        for each in taking_over.answered(limit=_BATCH)
    ]
    if reports := [each for each in found if isinstance(each, Report)]:
        done = recording.record_for_the_dead(reports)
        counting.answered(compress(reports, done))
    if later := [each for each in found if isinstance(each, Postponement)]:
        counting.answered(compress(later, recording.postpone(later)))
    for decision in found:
        assert decision.attempt is not None
        logger.warning(
            "worker died after the answer; its status counts",
            extra={
                "timer": decision.id, "status": decision.attempt.status_code,
            },
        )
    return len(found)


def _log_taken_over(timer_id: str, outcome: Outcome | None) -> None:
    if outcome is None:
        sentence = "worker died before the call; timer fires again"
    elif outcome is Outcome.UNKNOWN:
        sentence = "worker died after the request had left; not sent again"
    else:
        sentence = "timer given up: each worker that had it died"
    logger.warning(sentence, extra={"timer": timer_id})

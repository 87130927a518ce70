"""The whole answer: how a timer stands, what has happened, what comes."""

from collections.abc import Sequence
from dataclasses import dataclass

from apps.timers.explain import ended, firing, waiting
from apps.timers.explain.past import Happened, past
from apps.timers.explain.standing import Next, Standing
from apps.timers.explain.words import text
from apps.timers.storage.explaining import History


@dataclass(frozen=True, slots=True)
class Explanation:
    """A timer in sentences; `next` is None once it has ended."""

    summary: str
    events: Sequence[Happened]
    next: Next | None


def explain(history: History, *, has_rabbitmq: bool) -> Explanation:
    """Say what has happened to a timer, where it stands and what comes.

    has_rabbitmq  whether the service uses RabbitMQ
    """
    stands = _standing(history, has_rabbitmq)
    return Explanation(text(stands.sentences), past(history), stands.next)


def _standing(history: History, has_rabbitmq: bool) -> Standing:
    timer = history.timer
    if timer.outcome is not None:
        return ended.standing(history)
    if timer.fired_at is not None:
        return firing.standing(history, has_rabbitmq=has_rabbitmq)
    return waiting.standing(history, has_rabbitmq=has_rabbitmq)

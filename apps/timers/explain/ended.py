"""A timer that has ended: how, and what that means."""

from collections.abc import Callable
from datetime import timedelta

from apps.timers import decisions
from apps.timers.explain.standing import Standing
from apps.timers.explain.words import (
    detail_of,
    kind_of,
    later,
    moment,
    outcome,
    span,
)
from apps.timers.models import GAVE_UP, Outcome
from apps.timers.storage.explaining import History
from apps.timers.storage.replaying import MOST_ATTEMPTS

#: For each kind of error: why the timer failed.
_FAILURES = {
    "blocked": "No later attempt would help: it is not sent to an address"
    " that may not be called.",
    "hanging": "It was never sent while it waited for its host, which does"
    " not answer.",
    "busy": "There was no room for a call to its host in time.",
    "worker_lost": "The timer may be what makes workers die; it was not"
    " sent.",
    "max_lateness": "There was no time for another attempt.",
    "invalid": "Its row, or a value in it, can't be sent.",
    "internal": "That is a fault of this service; its log says more.",
    "timeout": "The receiver may have acted on it.",
    "reset": "The receiver may have acted on it.",
    "stale": "The receiver may have acted on it.",
    "protocol": "The receiver may have acted on it.",
}


def standing(history: History) -> Standing:
    """Return how an ended timer stands; nothing comes next."""
    assert history.timer.outcome is not None
    said = _SAID[Outcome(history.timer.outcome)](history)
    return Standing([*said, _replay(history)])


def _delivered(history: History) -> list[str]:
    timer = history.timer
    said = f"It was delivered: its receiver answered {timer.status_code}."
    if timer.sent_at is None:
        return [said]
    late = timer.sent_at - timer.due_at
    if late < timedelta(0):
        return [said]
    return [
        said,
        f"The request had left at {moment(timer.sent_at)},"
        f" {span(late)} after the timer's time.",
    ]


def _failed(history: History) -> list[str]:
    timer = history.timer
    if timer.error is None:
        code = timer.status_code
        return [f"It failed: its receiver answered {code}.", _final(history)]
    kind = kind_of(timer.error)
    return [
        f"It failed: {timer.error}.",
        _FAILURES.get(kind) or _patience(history),
    ]


def _patience(history: History) -> str:
    """Say until when a timer was tried that could not be sent."""
    until = history.details.retry_until
    if until is None:
        return "It was not sent."
    return f"It was not sent. It was to be tried until {moment(until)}."


def _final(history: History) -> str:
    """Say why an answer was the last one."""
    timer = history.timer
    if timer.status_code == decisions.GONE:
        return "With 410 a receiver says that it wants no more calls."
    if timer.retry is None:
        return "Without `retry`, any answer is final."
    if history.details.retries + 1 >= timer.retry.max_attempts:
        most = timer.retry.max_attempts
        return f"`retry` allows {most} calls in all, and all were made."
    return "Another attempt would have come later than `max_lateness` allows."


def _unknown(history: History) -> list[str]:
    timer = history.timer
    left = ""
    if timer.sent_at is not None:
        left = f"The request had left at {moment(timer.sent_at)}."
    return [
        "Nobody knows what came of it.",
        left,
        _no_answer(timer.error),
        "The receiver may have acted on it, or not. It is not sent again.",
    ]


def _no_answer(error: str | None) -> str:
    """Say why no answer was recorded; of an erased timer that is gone."""
    detail = detail_of(error)
    return f"No answer was recorded: {detail}." if detail else ""


def _missed(history: History) -> list[str]:
    timer = history.timer
    said = "It was missed: it could not be called in time, and was not called."
    if timer.max_lateness is not None:
        since = history.details.replayed_at or timer.due_at
        until = moment(later(since, timer.max_lateness))
        said += f" `max_lateness` allowed that until {until}."
    if kind_of(timer.error) not in ("", "max_lateness"):
        said += f" What kept it: {timer.error}."
    return [said]


def _cancelled(history: History) -> list[str]:
    at = [each.at for each in history.events if each.what == "cancelled"]
    when = f" at {moment(at[-1])}" if at else ""
    again = " again" if history.attempts else ""
    last = [outcome(each)[1] for each in history.attempts[-1:]]
    return [f"It was cancelled{when}; it is not called{again}.", *last]


def _replay(history: History) -> str:
    timer = history.timer
    if timer.outcome not in GAVE_UP:
        return ""
    if timer.erased_at is not None:
        return "What it called was erased, so it can't be replayed."
    if timer.attempts >= MOST_ATTEMPTS:
        return "It was tried too often to be replayed."
    return "It can be replayed."


_SAID: dict[Outcome, Callable[[History], list[str]]] = {
    Outcome.DELIVERED: _delivered,
    Outcome.FAILED: _failed,
    Outcome.UNKNOWN: _unknown,
    Outcome.MISSED: _missed,
    Outcome.CANCELLED: _cancelled,
}

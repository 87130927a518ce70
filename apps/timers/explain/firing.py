"""A timer that a worker has claimed: what the worker does, and by when."""

from datetime import datetime

from apps.timers.explain.processes import reports
from apps.timers.explain.standing import Next, Standing
from apps.timers.explain.words import moment, span
from apps.timers.storage.explaining import History
from apps.timers.storage.taking_over import MOST_REOPENINGS, SETTLE


def standing(history: History, *, has_rabbitmq: bool) -> Standing:
    """Return how a claimed timer stands."""
    timer, details = history.timer, history.details
    assert timer.fired_at is not None
    sentences = [
        f"A worker claimed it at {moment(timer.fired_at)}, to call it"
        f" (attempt {timer.attempts}).",
        _progress(history),
    ]
    until = details.leased_until
    if until is None:
        sentences.append("Its row has no end of the claim; it gets one soon.")
        return Standing(sentences)
    if until > details.now:
        sentences.append(
            f"The worker has until {moment(until)} to report or to ask for"
            " more time."
        )
        what = "If the worker has not reported by then, "
    else:
        sentences += _silent(history, until, has_rabbitmq)
        what = "The claim is ended: "
    return Standing(sentences, Next(until, what + _then(history)))


def _silent(
    history: History, until: datetime, has_rabbitmq: bool
) -> list[str]:
    """Say that a worker did not report in time, and who ends its claim."""
    over = span(history.details.now - until)
    return [
        f"Its worker had until {moment(until)} to report, and did not: it"
        f" died or is cut off. The claim has been over for {over}; it is ended"
        f" within seconds, but not in the first {span(SETTLE)} after Postgres"
        " was away.",
        *reports(history, "dispatcher" if has_rabbitmq else "worker"),
    ]


def _progress(history: History) -> str:
    timer, details = history.timer, history.details
    if details.answered is not None:
        return (
            f"The receiver has answered {details.answered}; that is not"
            " recorded yet."
        )
    if _has_left(history):
        assert timer.sent_at is not None
        return (
            f"The request had left at {moment(timer.sent_at)}; there is no"
            " answer yet."
        )
    return "As far as is known, its request has not left."


def _has_left(history: History) -> bool:
    """Tell whether this claim's request is known to have left."""
    timer = history.timer
    return timer.sent_at is not None and timer.sent_at >= timer.next_at


def _then(history: History) -> str:
    """Say what becomes of a claim whose worker does not report.

    This is what taking_over.TAKE_OVER decides.
    """
    timer = history.timer
    if history.details.answered is not None:
        return f"the answer {history.details.answered} decides what follows."
    if _has_left(history) and not timer.at_least_once:
        return "the timer ends as unknown: the request is not sent again."
    if history.details.claims <= MOST_REOPENINGS:
        if history.hold is not None:
            return "the timer is called again after the operator's hold."
        return "the timer is called again at once."
    if timer.at_least_once and timer.sent_at is not None:
        return "the timer ends as unknown: it lost too many workers."
    return "the timer ends as failed: it lost too many workers."

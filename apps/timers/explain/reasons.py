"""Why a timer waits that a worker has already claimed once."""

from datetime import datetime, timedelta

from apps.timers import decisions
from apps.timers.explain.words import (
    detail_of,
    kind_of,
    later,
    moment,
    outcome,
    span,
    text,
)
from apps.timers.storage.explaining import History
from apps.timers.storage.records import Attempt


def why_it_waits(history: History) -> str:
    """Say why a timer waits; nothing if it waits for its time only."""
    timer, details = history.timer, history.details
    if timer.deferred:
        return _put_off(history)
    if details.claims > 0:
        return _taken_over(history)
    if details.connect_failures > 0:
        return _unsent(history)
    if details.retries > 0:
        return _retry(history)
    if details.replayed_at is not None:
        return f"It was replayed at {moment(details.replayed_at)}."
    return ""


def _put_off(history: History) -> str:
    timer = history.timer
    reason = detail_of(timer.error)
    if kind_of(timer.error) == "hanging":
        said = f"It is put off because its host does not answer: {reason}."
        return text([said, _patience(history)])
    return f"It is put off because its host has its share of calls: {reason}."


def _taken_over(history: History) -> str:
    return text([
        _last(history),
        "Its claim was ended, and another worker may take it.",
    ])


def _unsent(history: History) -> str:
    return text([_last(history), _patience(history)])


def _patience(history: History) -> str:
    """Say until when it is tried to send a timer."""
    until = history.details.retry_until
    if until is None:
        return ""
    after = "it ends as failed"
    if history.timer.retry is not None:
        after = "`retry` decides"
    return (
        f"It is tried until {moment(until)}; if it can't be sent by then,"
        f" {after}."
    )


def _retry(history: History) -> str:
    policy, made = history.timer.retry, history.details.retries
    allowed = ""
    if policy is not None:
        allowed = (
            f"`retry` allows {policy.max_attempts} calls in all; {made}"
            f" {'was' if made == 1 else 'were'} made."
        )
    return text([_last(history), allowed, _retry_after(history)])


def _last(history: History) -> str:
    """Say what came of the last attempt."""
    if history.attempts:
        return outcome(history.attempts[-1])[1]
    return f"Its last attempt: {history.timer.error}."


def _retry_after(history: History) -> str:
    """Say that its receiver has asked for a longer wait, if that shows."""
    timer, policy = history.timer, history.timer.retry
    if not history.attempts or policy is None:
        return ""
    attempt = history.attempts[-1]
    is_moved = any(event.at >= attempt.due_at for event in history.events)
    if attempt.status_code not in decisions.BUSY or is_moved:
        return ""
    longest = policy.longest(history.details.retries)
    wait = timer.next_at - ended_at(attempt)
    if int(wait.total_seconds()) <= longest:
        return ""
    return (
        f"The wait of {span(wait)} is longer than `retry` makes it: the"
        " receiver has probably asked for that with Retry-After."
    )


def ended_at(attempt: Attempt) -> datetime:
    """Return about when an attempt ended whose request had left."""
    at = attempt.sent_at or attempt.due_at
    return later(at, attempt.duration or timedelta(0))

"""What has happened to a timer, in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from apps.timers.explain.words import moment, outcome, span, text
from apps.timers.storage.explaining import MOST, Event, History
from apps.timers.storage.queueing import OVERDUE_AFTER
from apps.timers.storage.records import Attempt


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that has happened: a word or two, and a sentence."""

    at: datetime
    what: str
    detail: str


def past(history: History) -> list[Happened]:
    """Return what has happened, as far as rows tell."""
    found = [
        _set(history),
        *_by_callers(history),
        *_put_off(history),
        *_attempts(history),
        *_now_going_on(history),
    ]
    return sorted(found, key=lambda each: each.at)


def _first_time(history: History) -> datetime:
    """Return the time that a timer was set for."""
    for event in history.events:
        if event.old_at is not None:
            return event.old_at
    return history.timer.due_at


def left_out(history: History) -> int:
    """Return how many of the callers' events are not read.

    Each of them has raised the timer's version by one.
    """
    if len(history.events) < 2 * MOST:
        return 0
    return max(0, history.timer.version - 1 - len(history.events))


def _set(history: History) -> Happened:
    at = history.timer.created_at
    due = moment(_first_time(history))
    return Happened(at, "set", f"It was set for {due}.")


# --- what callers did --------------------------------------------------------


def _by_callers(history: History) -> Iterator[Happened]:
    omitted = left_out(history)
    for index, event in enumerate(history.events):
        if index == MOST and omitted:
            yield Happened(
                history.events[index - 1].at, "left out",
                f"Here {omitted:,} more changes are left out.",
            )
        yield _by_caller(event)


def _by_caller(event: Event) -> Happened:
    what, say = _CALLERS.get(event.what, (event.what, lambda _: ""))
    return Happened(event.at, what, say(event))


def _moved(event: Event) -> str:
    """Say from when to when a timer was moved."""
    if event.move is None:
        return "Its time stayed as it was."
    old, new = event.move
    way = "later" if new > old else "earlier"
    return (
        f"It was moved from {moment(old)} to {moment(new)},"
        f" {span(new - old)} {way}."
    )


def _changed(event: Event) -> str:
    changed = "What it calls was changed."
    return changed if event.move is None else f"{changed} {_moved(event)}"


def _fired_now(event: Event) -> str:
    asked = "A caller asked for it to be called at once"
    if event.old_at is None:
        return f"{asked}."
    return f"{asked}, in place of {moment(event.old_at)}."


#: What events are called in answers, and what is said of each.
_CALLERS: dict[str, tuple[str, Callable[[Event], str]]] = {
    "moved": ("moved", _moved),
    "changed": ("changed", _changed),
    "fired": ("fired now", _fired_now),
    "cancelled": (
        "cancelled", lambda _: "It was cancelled: it is not called after that."
    ),
    "replayed": (
        "replayed", lambda _: "It had given up, and was to be called again."
    ),
    "erased": (
        "erased",
        lambda _: "What it called, and what was answered, was erased.",
    ),
    "reconciled": (
        "reconciled",
        lambda _: "After a restore the operator ended it: it may have been"
        " called since the backup.",
    ),
}


# --- attempts ----------------------------------------------------------------


def _put_off(history: History) -> Iterator[Happened]:
    """Tell that the first attempt was put off, if that shows.

    Its time is later then than callers have asked for. That later attempts
    were put off does not show: they wait for other reasons as well.
    """
    until = history.timer.next_at
    if history.attempts:
        until = history.attempts[0].due_at
    due = _asked_for(history, until)
    if until > due and not left_out(history):
        yield Happened(
            max(due, history.timer.created_at), "put off",
            "Its host had its share of calls, or did not answer: it was put"
            f" off until {moment(until)}.",
        )


def _asked_for(history: History, until: datetime) -> datetime:
    """Return when callers wanted a call, from what they had asked by then.

    A time in the past stands for the moment in which they asked.
    """
    due, asked = _first_time(history), [history.details.replayed_at]
    for event in history.events:
        if event.at <= until:
            asked.append(event.at)
            due = event.move[1] if event.move else due
    return max([due, *(at for at in asked if at and at <= until)])


def _attempts(history: History) -> Iterator[Happened]:
    attempts, created_at = history.attempts, history.timer.created_at
    lost_at = None
    for attempt in attempts:
        yield _attempt(attempt, created_at, attempt.due_at == lost_at)
        lost_at = attempt.due_at
    if len(attempts) < 2 * MOST:
        return
    before, after = attempts[MOST - 1], attempts[MOST]
    if omitted := after.number - before.number - 1:
        yield Happened(
            _when(before, created_at), "left out",
            f"Here {omitted:,} more attempts are left out.",
        )


def _when(attempt: Attempt, created_at: datetime) -> datetime:
    """Return about when an attempt was made.

    A timer may have been set a little after its time.
    """
    return attempt.sent_at or max(attempt.due_at, created_at)


def _attempt(
    attempt: Attempt, created_at: datetime, is_again: bool
) -> Happened:
    """Tell of an attempt; `is_again` after one whose worker died."""
    what, sentence = outcome(attempt)
    took = ""
    if attempt.duration is not None:
        took = f"It took {span(attempt.duration)}."
    return Happened(
        _when(attempt, created_at),
        what,
        text([sentence, took, _lateness(attempt, created_at, is_again)]),
    )


def _lateness(
    attempt: Attempt, created_at: datetime, is_again: bool
) -> str:
    """Say how late a request left, and what rows tell of why."""
    due, left = attempt.due_at, attempt.sent_at
    if left is None or left < due:
        return ""
    sentence = f"The request had left {span(left - due)} after its time."
    if is_again:
        return f"{sentence} Before, the claim of a dead worker had to end."
    since = max(due, created_at)
    if left - since <= OVERDUE_AFTER:
        return sentence
    return (
        f"{sentence} It waited from {moment(since)} to {moment(left)}: the"
        " service, Postgres or RabbitMQ was down or had too much to do, or the"
        " connection took that long."
    )


# --- what is going on --------------------------------------------------------


def _now_going_on(history: History) -> Iterator[Happened]:
    timer, details = history.timer, history.details
    if timer.waits and details.queued_at is not None:
        yield Happened(
            details.queued_at, "queued",
            "A message for it was sent to RabbitMQ.",
        )
    if timer.outcome is None and timer.fired_at is not None:
        yield Happened(
            timer.fired_at, "claimed",
            f"A worker claimed it for attempt {timer.attempts}.",
        )
        if timer.sent_at is not None and timer.sent_at >= timer.fired_at:
            yield Happened(
                timer.sent_at, "sent",
                f"The request of attempt {timer.attempts} had left.",
            )

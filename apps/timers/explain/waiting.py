"""A timer that waits: for its time, for another attempt, or for a worker."""

from datetime import datetime, timedelta

from apps.timers.explain.past import left_out
from apps.timers.explain.processes import reports
from apps.timers.explain.reasons import ended_at, why_it_waits
from apps.timers.explain.standing import Next, Standing
from apps.timers.explain.words import kind_of, later, moment, often, span
from apps.timers.storage.explaining import History
from apps.timers.storage.holding import Hold
from apps.timers.storage.queueing import (
    HORIZON,
    LOST_AFTER,
    OVERDUE_AFTER,
    REQUEUE_BUSY,
    REQUEUE_IDLE,
)


def standing(history: History, *, has_rabbitmq: bool) -> Standing:
    """Return how a waiting timer stands."""
    timer = history.timer
    late = history.details.now - timer.next_at
    if history.hold is not None:
        said, then = _held(history, history.hold)
    elif late < timedelta(0):
        said, then = _ahead(history, has_rabbitmq)
    elif late <= OVERDUE_AFTER:
        said = ["It is due: a worker takes it in this second."]
        then = Next(timer.next_at, "It is called.")
    else:
        said, then = _overdue(history, has_rabbitmq)
    sentences = [
        why_it_waits(history), *said, _too_late(history), _moves(history),
        _bad_row(history),
    ]
    return Standing(sentences, then)


# --- the operator holds all calls -------------------------------------------


def _held(history: History, hold: Hold) -> tuple[list[str], Next]:
    at, now = history.timer.next_at, history.details.now
    why = f" ({hold.reason})" if hold.reason else ""
    held = f"The operator has held all calls since {moment(hold.since)}{why}."
    if at > now:
        said = f"It is to be called{_again(history)} at {moment(at)}."
        then = f"It is called{_again(history)}, unless calls are held then."
    else:
        said = f"Its time was {moment(at)}, {span(now - at)} ago."
        then = f"It is called{_again(history)} soon after the hold."
    return [said, held], Next(at, then)


def _again(history: History) -> str:
    return " again" if why_it_waits(history) else ""


# --- its time is to come ----------------------------------------------------


def _ahead(history: History, has_rabbitmq: bool) -> tuple[list[str], Next]:
    timer, again = history.timer, _again(history)
    left = timer.next_at - history.details.now
    said = f"It is called{again} at {moment(timer.next_at)}, in {span(left)}."
    where = _where(history) if has_rabbitmq else ["It waits in Postgres."]
    return [said, *where], Next(timer.next_at, f"It is called{again}.")


def _where(history: History) -> list[str]:
    """Say whether RabbitMQ has a message for it, and since when."""
    timer, details = history.timer, history.details
    if details.queued_at is not None:
        at = moment(details.queued_at)
        return [f"A message for it has been in RabbitMQ since {at}."]
    if timer.next_at - details.now > HORIZON:
        return [
            "It waits in Postgres; RabbitMQ gets a message for it"
            f" {span(HORIZON)} before."
        ]
    near = _near_since(history)
    if near is None:
        no_message = "RabbitMQ has no message for it yet."
        return [no_message, *reports(history, "dispatcher")]
    if details.now - near <= OVERDUE_AFTER:
        return ["RabbitMQ gets a message for it in this second."]
    return [
        f"RabbitMQ should have had a message for it since {moment(near)},"
        " and has none.",
        *reports(history, "dispatcher"),
    ]


def _near_since(history: History) -> datetime | None:
    """Return since when a message should be in RabbitMQ, at the latest.

    None if no row says when the timer was put off, or tried without sending.
    """
    timer, last = history.timer, history.attempts[-1:]
    if timer.deferred or any(each.sent_at is None for each in last):
        return None
    return max([
        later(timer.next_at, -HORIZON),
        timer.created_at,
        *(each.at for each in history.events[-1:]),
        *(ended_at(each) for each in last),
    ])


# --- its time has passed ----------------------------------------------------


def _overdue(history: History, has_rabbitmq: bool) -> tuple[list[str], Next]:
    timer, details = history.timer, history.details
    late = span(details.now - timer.next_at)
    said = [f"It has been overdue since {moment(timer.next_at)}, for {late}."]
    if not has_rabbitmq:
        said += ["No worker has taken it yet.", *reports(history, "worker")]
        return said, Next(timer.next_at, "A worker takes it.")
    if details.queued_at is None:
        return [
            *said,
            "RabbitMQ has no message for it: the dispatcher or RabbitMQ is"
            " away, or RabbitMQ has enough messages of overdue timers.",
            *reports(history, "dispatcher", "worker"),
        ], Next(timer.next_at, "RabbitMQ gets a message for it.")
    return [
        *said,
        f"A message for it was sent to RabbitMQ at"
        f" {moment(details.queued_at)}, and no worker has taken it: others"
        " come first, or the message was lost.",
        *reports(history, "dispatcher", "worker"),
    ], _sent_again(history, details.queued_at)


def _sent_again(history: History, queued_at: datetime) -> Next:
    """Say when a message that no worker has taken counts as lost."""
    due, now = history.timer.next_at, history.details.now
    at = max(later(due, LOST_AFTER), later(queued_at, REQUEUE_IDLE))
    if at < now:  # RabbitMQ's queues are not empty
        at = later(max(queued_at, due), REQUEUE_BUSY)
    return Next(
        at,
        "If no worker has taken it by then, another message is sent for it.",
    )


# --- what holds for all that wait -------------------------------------------


def _too_late(history: History) -> str:
    """Say until when a timer may be called, and what it ends as after that.

    That it was called before is what decisions.too_late asks.
    """
    timer = history.timer
    if timer.max_lateness is None:
        return ""
    since = history.details.replayed_at or timer.due_at
    until = later(since, timer.max_lateness)
    outcome = "missed" if timer.sent_at is None else "failed"
    if until < history.details.now:
        return (
            f"`max_lateness` allowed a call until {moment(until)}: it ends as"
            f" {outcome} when a worker takes it."
        )
    return f"If it can't be called by {moment(until)}, it ends as {outcome}."


def _moves(history: History) -> str:
    """Say how often a timer was moved, and the last time from when to when."""
    moves = [each.move for each in history.events if each.move]
    if not moves:
        return ""
    old, new = moves[-1]
    last = f"from {moment(old)} to {moment(new)}"
    if omitted := left_out(history):
        count = often(len(history.events) + omitted)
        return f"Callers changed it {count}; the last move was {last}."
    if len(moves) == 1:
        return f"It was moved once, {last}."
    return f"It was moved {often(len(moves))}, the last time {last}."


def _bad_row(history: History) -> str:
    error = history.timer.error
    if kind_of(error) != "invalid":
        return ""
    return f"Its row can't be used ({error}): it ends when a worker takes it."

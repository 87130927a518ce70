"""A timer's life as a picture of states, which the server draws.

There are two pictures of the same states: one beside the other, and, for a
phone, one below the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from apps.timers.explain.words import kind_of, often, span
from apps.timers.models import Outcome
from apps.timers.storage.explaining import History
from apps.timers.storage.records import StoredTimer

#: The size of a state's box, and the room for all of them.
_WIDTH, _NARROW, _HEIGHT = 136, 112, 60
_ROOM, _PHONE = 1080, 328
_TOP, _PITCH = 4, 100
#: Errors of attempts whose claim was taken over.
_TAKEN_OVER = frozenset({"worker_lost", "unknown"})


@dataclass(frozen=True, slots=True)
class State:
    """A state that a timer was in, is in, or will be in.

    at    when it came into it; None if that is not known, or not yet
    gap   how long after the state before
    note  what else is to be said in a few words
    kind  past, now or ahead
    """

    name: str
    at: datetime | None = None
    gap: timedelta | None = None
    note: str = ""
    kind: str = "past"


@dataclass(frozen=True, slots=True)
class Detour:
    """A way back: from the state `of`, by its number, to an earlier one."""

    of: int
    state: State


@dataclass(frozen=True, slots=True)
class Life:
    """The states in their order, and the ways back between them."""

    states: Sequence[State]
    detours: Sequence[Detour]

    def words(self) -> str:
        """Return the same in words."""
        return "; ".join(
            _say(each)
            for each in (*self.states, *(way.state for way in self.detours))
        )


class Box(NamedTuple):
    """Where a state is drawn, by its upper left corner."""

    x: int
    y: int
    width: int
    state: State


class Arrow(NamedTuple):
    """A line from state to state; its label's place, and the label."""

    path: str
    kind: str
    x: int
    y: int
    gap: timedelta | None


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn, in units of about a pixel."""

    kind: str
    width: int
    height: int
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]


def _say(state: State) -> str:
    text = state.name
    if state.gap is not None:
        text += f" {span(state.gap)} later"
    if state.note:
        text += f", {state.note}"
    return {"ahead": f"then {text}", "now": f"now {text}"}.get(
        state.kind, text
    )


# --- which states -----------------------------------------------------------


def life(history: History) -> Life:
    """Return the states of a timer, as far as rows tell."""
    timer = history.timer
    states = list(_with_gaps(_states(history)))
    detours = list(_detours(history, states))
    if timer.outcome is not None or any(
        way.state.kind == "now" for way in detours
    ):
        return Life(states, detours)
    now = max(
        number for number, each in enumerate(states) if each.kind == "past"
    )
    states[now] = replace(states[now], kind="now")
    return Life(states, detours)


def _states(history: History) -> Iterator[State]:
    timer, details = history.timer, history.details
    was_claimed = timer.fired_at is not None or timer.attempts > 0
    was_queued = details.queued_at is not None or was_claimed
    yield State("scheduled", timer.created_at)
    for name, at, was in (
        ("queued", details.queued_at, was_queued),
        ("claimed", timer.fired_at, was_claimed),
        ("sent", timer.sent_at, timer.sent_at is not None),
    ):
        if was:
            yield State(name, at, note=_late(timer) if name == "sent" else "")
        elif timer.outcome is None:
            yield State(name, kind="ahead")
    yield _end(history)


def _end(history: History) -> State:
    """Return how it ended, or how it should."""
    timer = history.timer
    if timer.outcome is None:
        return State("delivered", kind="ahead")
    at = None
    if timer.outcome == Outcome.CANCELLED:
        at = max((e.at for e in history.events if e.what == "cancelled"),
                 default=None)
    notes = [str(timer.status_code)] if timer.status_code else []
    took = history.attempts[-1].duration if history.attempts else None
    if took is not None and at is None:
        notes.append(f"took {span(took)}")
    return State(timer.status, at, note=", ".join(notes), kind="now")


def _late(timer: StoredTimer) -> str:
    assert timer.sent_at is not None
    late = timer.sent_at - timer.due_at
    if late < timedelta(0):
        return "for an earlier time"
    return f"{span(late)} late"


def _with_gaps(states: Iterator[State]) -> Iterator[State]:
    """Yield the states with how long each came after the one before it."""
    before: datetime | None = None
    for state in states:
        if state.at and before and state.at >= before:
            state = replace(state, gap=state.at - before)
        yield state
        before = state.at


def _detours(
    history: History, states: Sequence[State]
) -> Iterator[Detour]:
    timer, details = history.timer, history.details
    taken_over = sum(
        kind_of(each.error) in _TAKEN_OVER for each in history.attempts
    )
    replays = sum(each.what == "replayed" for each in history.events)
    names = [each.name for each in states if each.kind != "ahead"]
    for name, of, count in (
        ("deferred", "claimed", int(timer.status == "deferred")),
        ("taken over", "claimed", taken_over),
        (
            "retrying", "sent",
            details.retries + details.connect_failures
            or int(timer.status == "retrying"),
        ),
        ("replayed", names[-1], replays),
    ):
        if not count:
            continue
        is_now = timer.status == name
        yield Detour(
            names.index(of) if of in names else len(names) - 1,
            State(
                name,
                timer.next_at if is_now else None,
                note="then again" if is_now else often(count),
                kind="now" if is_now else "past",
            ),
        )


# --- where they are drawn ---------------------------------------------------


def pictures(of: Life) -> tuple[Picture, Picture]:
    """Return the picture for a desktop, and the one for a phone."""
    return _beside(of), _below(of)


def _beside(of: Life) -> Picture:
    pitch = (_ROOM - _WIDTH - 4) // max(4, len(of.states) - 1)
    middle = _TOP + _HEIGHT // 2
    boxes = [
        Box(2 + number * pitch, _TOP, _WIDTH, state)
        for number, state in enumerate(of.states)
    ]
    arrows = [
        Arrow(
            f"M{left.x + _WIDTH} {middle}H{right.x - 9}", right.state.kind,
            (left.x + _WIDTH + right.x) // 2 - 4, middle - 8,
            right.state.gap,
        )
        for left, right in pairwise(boxes)
    ]
    bottom = _TOP + _HEIGHT
    for number, way in enumerate(of.detours):
        y = _TOP + (number + 1) * (_HEIGHT + 28)
        x = boxes[way.of].x
        back = boxes[_back(way)].x + _WIDTH // 2 + 12 * number
        line, kind = y + _HEIGHT // 2, way.state.kind
        boxes.append(Box(x, y, _NARROW, way.state))
        arrows += [
            _line(f"M{x + _WIDTH - 8} {bottom}V{line}H{x + _NARROW + 9}",
                  kind),
            _line(f"M{x} {line}H{back}V{bottom + 9}", kind),
        ]
    height = boxes[-1].y + _HEIGHT + _TOP
    return Picture("beside", _ROOM, height, boxes, arrows)


def _below(of: Life) -> Picture:
    boxes = [
        Box(2, _TOP + number * _PITCH, _WIDTH, state)
        for number, state in enumerate(of.states)
    ]
    arrows = [
        Arrow(
            f"M70 {upper.y + _HEIGHT}V{lower.y - 9}", lower.state.kind,
            80, upper.y + _HEIGHT + 24, lower.state.gap,
        )
        for upper, lower in pairwise(boxes)
    ]
    right, lane, bottom = 2 + _WIDTH, 208, 0
    for number, way in enumerate(of.detours):
        start, back = boxes[way.of], boxes[_back(way)]
        y = max(start.y, bottom + 12)
        bottom, kind = y + _HEIGHT, way.state.kind
        boxes.append(Box(lane, y, _NARROW, way.state))
        arrows += [
            _line(f"M{right} {start.y + 44}H190V{y + 44}H{lane - 9}", kind),
            _line(
                f"M{lane} {y + 16}H{164 + 8 * number}V{back.y + 16}"
                f"H{right + 9}",
                kind,
            ),
        ]
    height = max(box.y for box in boxes) + _HEIGHT + _TOP
    return Picture("below", _PHONE, height, boxes, arrows)


def _back(way: Detour) -> int:
    """Return the number of the state to which a way leads back."""
    return max(0, min(way.of - 1, 1))


def _line(path: str, kind: str) -> Arrow:
    return Arrow(path, kind, 0, 0, None)

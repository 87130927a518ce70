"""A timer's life in states: which ones, and that they can be drawn."""

from typing import Any

import pytest

from apps.dashboard.life import Life, life, pictures
from apps.timers.storage.explaining import Details, History
from tests.support.explaining import (
    CALLED,
    GONE_AFTER,
    LOST,
    at,
    attempt,
    event,
    timer,
)


def lived(
    columns: dict[str, Any],
    attempts: tuple[Any, ...] = (),
    events: tuple[Any, ...] = (),
    **details: Any,
) -> Life:
    return life(
        History(timer(**columns), Details(at(0), **details), events, attempts)
    )


SENT = {**CALLED, "sent_at": at(0.002)}
CASES: list[tuple[str, Life]] = [
    (
        "now scheduled; then queued; then claimed; then sent; then delivered",
        lived({}),
    ),
    (
        "scheduled; now queued 59 min 30 s later; then claimed; then sent;"
        " then delivered",
        lived({}, queued_at=at(-30)),
    ),
    (
        "scheduled; queued 59 min 30 s later; now claimed 30 s later;"
        " then sent; then delivered",
        lived({**CALLED, "status": "firing"}, queued_at=at(-30)),
    ),
    (
        "scheduled; queued; claimed; now sent 2 ms later,"
        " 2 ms late; then delivered",
        lived({**SENT, "status": "firing"}),
    ),
    (
        "scheduled; queued; claimed; sent 2 ms later, 2 ms late;"
        " now delivered, 200, took 12 ms",
        lived(
            {
                **SENT, "outcome": "delivered", "status": "delivered",
                "status_code": 200,
            },
            (attempt(1, 200, sent=0.002),),
        ),
    ),
    (
        "scheduled; queued; claimed; sent, 2 ms late;"
        " then delivered; now retrying, then again",
        lived(
            {
                "sent_at": at(0.002), "attempts": 1, "status": "retrying",
                "next_at": at(60),
            },
            (attempt(1, 503, sent=0.002),), retries=1,
        ),
    ),
    (
        "scheduled; queued; claimed; then sent; then delivered; now deferred,"
        " then again; taken over, twice",
        lived(
            {"attempts": 2, "status": "deferred", "deferred": True},
            (attempt(1, error=LOST), attempt(2, error=LOST)),
        ),
    ),
    (
        "scheduled; now cancelled 59 min later",
        lived(
            {"outcome": "cancelled", "status": "cancelled"},
            events=(event("cancelled", -60),),
        ),
    ),
    (
        "scheduled; queued 59 min later; now missed",
        lived({"outcome": "missed", "status": "missed"}, queued_at=at(-60)),
    ),
    (
        "scheduled; queued; claimed; sent, for an earlier time;"
        " now unknown; taken over, once; replayed, once",
        lived(
            {
                **SENT, "sent_at": at(-9), "outcome": "unknown",
                "status": "unknown",
            },
            (attempt(1, error=GONE_AFTER),),
            (event("replayed", -1),),
        ),
    ),
]


@pytest.mark.parametrize(
    ("words", "of"), CASES, ids=[str(n) for n in range(len(CASES))]
)
def test_the_states_are_told_and_drawn(words: str, of: Life) -> None:
    assert of.words() == words
    states = len(of.states) + len(of.detours)
    for picture in pictures(of):
        assert len(picture.boxes) == states
        for box in picture.boxes:
            assert 0 <= box.x <= picture.width - box.width
            assert 0 <= box.y <= picture.height - 60
        places = [(box.x, box.y, box.width) for box in picture.boxes]
        for n, (x, y, width) in enumerate(places):
            for other_x, other_y, other_width in places[n + 1:]:
                is_apart = (
                    x + width <= other_x or other_x + other_width <= x
                    or abs(y - other_y) >= 60
                )
                assert is_apart, places

"""What has happened to a timer, in order."""

from dataclasses import replace

import pytest

from apps.timers.explain.answer import Explanation
from apps.timers.explain.words import moment
from apps.timers.storage.explaining import MOST, Event
from tests.support.explaining import (
    CLAIM,
    DUE,
    GONE_AFTER,
    LOST,
    at,
    attempt,
    event,
    timer,
    told,
)


def lines(found: Explanation) -> list[str]:
    return [
        f"{(each.at - DUE).total_seconds():g} {each.what}: {each.detail}"
        for each in found.events
    ]


def test_all_that_callers_did_is_told_in_order() -> None:
    found = told(
        now=600,
        of=timer(due_at=at(-2600), next_at=at(500), version=9),
        events=(
            event("moved", -3000, -600, 60), event("moved", -2900),
            event("changed", -2800), event("changed", -2700, 60, 0),
            event("fired", -2600, 0, -2600), event("replayed", 500),
            event("cancelled", 501), event("odd", 502),
        ),
        replayed_at=at(500),
    )
    assert lines(found) == [
        "-3600 set: It was set for 2026-11-27T11:50:00.000Z.",
        "-3000 moved: It was moved from 2026-11-27T11:50:00.000Z to"
        " 2026-11-27T12:01:00.000Z, 11 min later.",
        "-2900 moved: Its time stayed as it was.",
        "-2800 changed: What it calls was changed.",
        "-2700 changed: What it calls was changed. It was moved from"
        " 2026-11-27T12:01:00.000Z to 2026-11-27T12:00:00.000Z, 1 min"
        " earlier.",
        "-2600 fired now: A caller asked for it to be called at once, in"
        " place of 2026-11-27T12:00:00.000Z.",
        "500 replayed: It had given up, and was to be called again.",
        "501 cancelled: It was cancelled: it is not called after that.",
        "502 odd: ",
    ]


def test_all_attempts_and_the_claim_are_told_in_order() -> None:
    found = told(
        now=7300,
        of=timer(fired_at=at(7300), sent_at=at(7300.5), attempts=7),
        attempts=(
            attempt(1, error="refused: nobody there"),
            attempt(2, error=LOST, due=1),
            attempt(3, code=503, sent=7200, due=2),
            attempt(4, error="timeout: no answer", sent=7210.004, due=7210),
            attempt(5, error=GONE_AFTER, sent=7220, due=7220),
            attempt(6, error="reset: cut off", due=7230),
        ),
        **CLAIM,
    )
    assert lines(found) == [
        "-3600 set: It was set for 2026-11-27T12:00:00.000Z.",
        "0 not sent: Attempt 1 could not be sent: refused: nobody there. It"
        " took 12 ms.",
        "1 worker lost: Attempt 2: its worker died before the call.",
        "7200 answered: Attempt 3 was answered 503. It took 12 ms. The"
        " request had left 1 h 59 min after its time. It waited from"
        " 2026-11-27T12:00:02.000Z to 2026-11-27T14:00:00.000Z: the service,"
        " Postgres or RabbitMQ was down or had too much to do, or the"
        " connection took that long.",
        "7210 no answer: Attempt 4 got no answer: timeout: no answer. It took"
        " 12 ms. The request had left 4 ms after its time.",
        "7220 worker lost: Attempt 5: its worker died after the request had"
        " left. The request had left 0 ms after its time.",
        "7230 no answer: Attempt 6 got no answer: reset: cut off. It took"
        " 12 ms.",
        "7300 claimed: A worker claimed it for attempt 7.",
        "7300.5 sent: The request of attempt 7 had left.",
    ]


@pytest.mark.parametrize(
    ("asked", "tried", "since"),
    [
        ((), 0, None),
        ((), 5, 0),
        ((event("moved", -9, -60, -20),), -9, None),
        ((event("moved", -9, -60, -20),), 5, -9),
        ((event("moved", -9, -60, 0),), 5, 0),
        ((event("moved", -9),), -9, None),
        ((event("changed", 3),), 5, 3),
        ((event("fired", -9, 0, -9),), -9, None),
        ((event("replayed", 3),), 3, None),
        ((event("replayed", 30),), 5, 0),
        ((event("moved", 30, 0, 60),), 5, 0),
    ],
)
def test_that_a_first_attempt_was_put_off_is_told(
    asked: tuple[Event, ...], tried: float, since: float | None
) -> None:
    put_off = [
        line for line in lines(told(
            now=60, events=asked, attempts=(attempt(code=200, due=tried),)
        )) if "put off" in line
    ]
    assert put_off == ([] if since is None else [
        f"{since:g} put off: Its host had its share of calls, or did not"
        f" answer: it was put off until {moment(at(tried))}."
    ])


def test_a_message_is_told_while_it_waits() -> None:
    assert lines(told(now=-30, queued_at=at(-60)))[1:] == [
        "-60 queued: A message for it was sent to RabbitMQ.",
    ]


def test_why_a_request_left_late_is_told_as_far_as_rows_do() -> None:
    # Given a timer that was set after its time, whose first worker died
    found = told(
        now=60, of=timer(created_at=at(30), attempts=2),
        attempts=(
            attempt(1, error=LOST),
            attempt(2, code=200, sent=50.5),
        ),
    )
    assert lines(found)[1:] == [
        "30 worker lost: Attempt 1: its worker died before the call.",
        "50.5 answered: Attempt 2 was answered 200. It took 12 ms. The request"
        " had left 50 s after its time. Before, the claim of a dead worker had"
        " to end.",
    ]

    # When it is called at once, Then nothing was down
    found = told(
        now=60, of=timer(created_at=at(30), attempts=1),
        attempts=(attempt(1, code=200, sent=30.002),),
    )
    assert lines(found)[1:] == [
        "30.002 answered: Attempt 1 was answered 200. It took 12 ms. The"
        " request had left 30 s after its time.",
    ]


def test_of_many_changes_and_attempts_the_middle_is_left_out() -> None:
    # Given a timer with more of both than are read
    moves = tuple(
        event("moved", -3000 + each, each, each + 1)
        for each in range(2 * MOST)
    )
    tries = [attempt(n, code=500, sent=n, due=n) for n in range(1, 101)]
    tries[MOST:] = [replace(each, number=each.number + 900)
                    for each in tries[MOST:]]
    found = told(
        now=900, of=timer(version=100_001), events=moves,
        attempts=tuple(tries),
    )

    # Then the gaps are told where they are, and how often it was changed
    left_out = [
        (index, each) for index, each in enumerate(lines(found))
        if "left out" in each
    ]
    assert left_out == [
        (51, "-2951 left out: Here 99,900 more changes are left out."),
        (152, "50 left out: Here 900 more attempts are left out."),
    ]
    assert "Callers changed it 100,000 times; the last move was from" in (
        found.summary
    )

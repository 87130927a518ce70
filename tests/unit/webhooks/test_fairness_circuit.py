"""The circuit that opens for what hangs, on a virtual clock."""

import pytest

from apps.webhooks import destination, fairness
from tests.unit.webhooks.test_fairness import (
    ALONE,
    DEADLINE,
    HOST,
    OTHER,
    SLOW,
    Slots,
)


def test_five_that_hang_open_the_circuit_for_all_but_one_probe() -> None:
    # Given four calls that hung: it is not open, only not trusted
    given = Slots()
    for _ in range(4):
        assert given.enter() is None
    given.now += DEADLINE
    given.leave(4, hung=True)
    given.call(DEADLINE)  # the fifth

    # Then nothing is sent for a moment
    deferral = given.refusal()
    assert deferral.hanging
    assert deferral.reason == (
        "hanging: the last 5 calls to example.com:443 got no answer"
    )
    # And then one probe, and no second
    given.now += 1.0
    assert given.enter(returning=True) is None
    assert given.enter(returning=True) is not None
    assert given.enter(OTHER) is None

    # When the probe is answered, it is closed
    given.now += 0.1
    given.leave()
    assert given.fill() == SLOW - 1
    # And its time-outs are no measure any more
    assert given.refusal().wait == destination.SHORTEST_WAIT


def test_the_pause_between_probes_doubles_up_to_half_a_minute() -> None:
    given = Slots()
    given.open()
    pauses = []
    for _ in range(6):
        ended = given.now
        while given.enter() is not None:
            given.now += 0.25
        pauses.append(given.now - ended)
        given.now += DEADLINE
        given.leave(hung=True)
    assert pauses == [1, 11, 30, 30, 30, 30]


@pytest.mark.parametrize("count", [1, 1000])
def test_those_who_wait_for_a_probe_are_spread(count: int) -> None:
    # Given it has hung for long, and the probe's end is 30 s away
    given = Slots()
    given.open()
    given.now += 100
    given.call(DEADLINE)
    # Then a waiting timer comes back after that, and within a minute
    waits = sorted(given.refusal().wait for _ in range(count))
    assert waits[0] >= 30
    assert waits[-1] <= 60
    if count > 1:
        assert waits[500] == pytest.approx(45, abs=2)


def test_those_who_come_during_a_probe_wait_for_its_end() -> None:
    # Given a probe that has been under way for a second
    given = Slots()
    given.open()
    given.now += 1.0
    assert given.enter() is None
    given.now += 1.0
    # Then who comes is back between its end and as long again
    waits = sorted(given.refusal().wait for _ in range(100))
    assert 9 <= waits[0] < 10 < 18 < waits[-1] <= 19


def test_one_that_is_closed_again_owes_nothing_to_bookings() -> None:
    # Given bookings for a minute, made while four of five calls hung
    given = Slots()
    for _ in range(4):
        assert given.enter() is None
    given.now += DEADLINE
    given.leave(4, hung=True)
    assert given.fill() == 9
    for _ in range(1000):
        given.refusal()
    given.now += DEADLINE
    given.leave(9, hung=True)
    given.now += 1.0
    # When a probe is answered
    given.call(0.1)
    # Then newcomers need not leave room to others
    assert given.fill() == SLOW


def test_stragglers_do_not_lengthen_the_pause() -> None:
    # Given more under way than it takes to open, all of which hang
    given = Slots()
    for _ in range(9):
        assert given.enter() is None
    given.now += DEADLINE
    given.leave(9, hung=True)
    # Then the pause is as long as after five
    given.now += 1.0
    assert given.enter() is None


@pytest.mark.parametrize("pause", [0.05, 0.5, 20])
def test_a_destination_of_which_one_in_nine_hangs_stays_closed(
    pause: float,
) -> None:
    # Given nine calls each time, of which eight are answered at once
    given = Slots()
    for _ in range(100):
        for _ in range(9):
            assert given.enter() is None
        given.leave(8)
        # When the ninth hangs, with or without others in between
        given.now += pause
        given.call(0.01)
        given.now += DEADLINE
        given.leave(hung=True)
    # Then it is no reason to wait
    assert given.enter() is None


def test_calls_that_hang_after_a_burst_was_answered_do_not_count() -> None:
    # Given many calls at once, of which all but ten are answered
    given = Slots()
    given.prove()
    assert given.fill() == ALONE
    given.now += 0.01
    given.leave(ALONE - 10)
    # When the ten time out, one after the other
    given.now += DEADLINE
    given.leave(10, hung=True)
    # Then it is not open, since it answered after they had begun
    assert given.enter() is None
    assert given.enter() is None


def test_time_alone_closes_nothing() -> None:
    given = Slots()
    given.open()
    given.now += 7 * 24 * 3600
    assert given.enter() is None
    assert given.refusal().hanging


def test_no_call_after_all_shows_nothing() -> None:
    # Given a host that hangs
    slots = Slots()
    for _ in range(destination.HUNG_IN_A_ROW):
        slots.call(DEADLINE)

    # When its probe was not sent after all, Then it hangs as before
    slots.now += 60
    assert slots.enter() is None
    slots.destinations.leave(HOST, hung=None)
    assert slots.fill() == 1
    assert slots.refusal().hanging


def test_those_that_are_open_are_counted(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two that hang, and one that doesn't
    monkeypatch.setattr(fairness, "_MOST_IDLE", 3)
    given = Slots()
    given.call(1.0)
    third = ("third.example", 443)
    for origin in (OTHER, third):
        for _ in range(5):
            given.now += 60
            assert given.enter(origin, returning=True) is None
            given.now += DEADLINE
            given.leave(origin=origin, hung=True)
    assert given.destinations.count_open() == 2

    # When one is answered, Then it is open no more
    given.now += 60
    assert given.enter(OTHER, returning=True) is None
    given.leave(origin=OTHER)
    assert given.destinations.count_open() == 1

    # When the other one is forgotten, Then neither is that
    for number in range(3):
        origin = (f"{number}.example", 443)
        assert given.enter(origin) is None
        given.leave(origin=origin)
    assert given.destinations.count_open() == 0


def test_what_hangs_is_told_for_as_long_as_it_does() -> None:
    # Given one that hangs, and one that is just being called
    given = Slots()
    assert given.destinations.hanging() == []
    given.open()
    assert given.enter(OTHER) is None
    given.now += 60
    assert given.destinations.hanging() == [(*HOST, 60)]
    assert given.destinations.busy() == 1

    # When it is probed, it is told still; when it answers, no more
    assert given.enter(returning=True) is None
    assert given.destinations.hanging() == [(*HOST, 60)]
    assert given.destinations.busy() == 2
    given.leave()
    assert given.destinations.hanging() == []
    assert given.destinations.busy() == 1


def test_of_many_that_hang_some_are_told() -> None:
    given = Slots()
    for number in range(fairness._MOST_SHOWN + 5):
        for _ in range(destination.HUNG_IN_A_ROW):
            given.call(DEADLINE, (f"{number}.example", 443))
    told = given.destinations.hanging()
    assert len(told) == fairness._MOST_SHOWN
    assert told[0][0] == f"{fairness._MOST_SHOWN + 4}.example"

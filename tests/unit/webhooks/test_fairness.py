"""Shares of slots and paced deferrals, on a virtual clock."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.webhooks import destination, fairness
from apps.webhooks.destination import Deferral, Origin
from apps.webhooks.fairness import Destinations

HOST = ("example.com", 443)
OTHER = ("other.example", 443)
DEADLINE = 10.0
#: So many of 64 slots are for one that answers, while there is no other.
ALONE = 57
#: And so many for one that takes longer than a second.
SLOW = 30


class Slots:
    """Destinations with a clock that is set by hand."""

    def __init__(self, slots: int = 64) -> None:
        random.seed(1)
        self.now = 1000.0
        self.destinations = Destinations(slots, lambda: self.now, 0)

    def enter(
        self, origin: Origin = HOST, *, returning: bool = False
    ) -> Deferral | None:
        return self.destinations.enter(origin, returning=returning)

    def locate(self, origin: Origin, address: str) -> Deferral | None:
        return self.destinations.locate(origin, address)

    def fill(self, origin: Origin = HOST, *, returning: bool = False) -> int:
        """Enter until that is refused; return how often it was not."""
        count = 0
        while self.enter(origin, returning=returning) is None:
            count += 1
        return count

    def enter_in_turn(self, hosts: int) -> None:
        """Have so many hosts enter, again and again, until none may."""
        origins = [(f"{number}.example", 80) for number in range(hosts)]
        while [origin for origin in origins if self.enter(origin) is None]:
            pass

    def refusal(self, origin: Origin = HOST) -> Deferral:
        deferral = self.enter(origin)
        assert deferral is not None
        return deferral

    def leave(
        self, count: int = 1, origin: Origin = HOST, *, hung: bool = False
    ) -> None:
        for _ in range(count):
            self.destinations.leave(origin, hung=hung)

    def call(self, took: float, origin: Origin = HOST) -> None:
        """Make one call that hangs if it takes DEADLINE."""
        assert self.enter(origin) is None
        self.now += took
        self.leave(origin=origin, hung=took >= DEADLINE)

    def prove(self, origin: Origin = HOST) -> None:
        """Make as many quick calls as it takes to be known as fast."""
        for _ in range(30):
            self.call(0.005, origin)

    def open(self) -> None:
        """Let as many calls hang, at once, as it takes to open."""
        for _ in range(destination.HUNG_IN_A_ROW):
            assert self.enter() is None
        self.now += DEADLINE
        self.leave(destination.HUNG_IN_A_ROW, hung=True)


@pytest.mark.parametrize(
    ("slots", "silent", "slow", "quick", "fast"),
    [
        (1, 1, 1, 1, 1), (2, 1, 1, 2, 2), (4, 1, 2, 4, 4), (8, 1, 4, 8, 8),
        (16, 3, 8, 14, 15), (64, 9, 30, 51, ALONE),
        (256, 35, 118, 203, 226),
    ],
)
def test_one_that_is_alone_gets_most_slots(
    slots: int, silent: int, slow: int, quick: int, fast: int
) -> None:
    # Given nothing is known of a destination, it gets a part
    given = Slots(slots)
    assert given.fill() == silent
    # When one was answered after some time, it gets up to half
    given.now += 1.5
    given.leave(silent)
    assert given.fill() == slow
    given.leave(slow)
    # And when all are answered within a second, it gets most
    for _ in range(10):
        given.call(0.9)
    assert given.fill() == quick
    given.leave(quick)
    # And when they are answered at once, it gets nearly all
    given.prove()
    assert given.fill() == fast
    # And when it has not been called for long, the same
    given.leave(fast)
    given.now += 100
    assert given.fill() == fast
    # And when it answers none of them for long, it gets no more
    given.leave(fast - silent)
    given.now += 3
    assert given.enter() is not None
    # And in the end all slots are free
    given.leave(silent)
    assert given.destinations._free == slots


@pytest.mark.parametrize(
    ("hosts", "taken"), [(5, 18), (20, 24), (40, 40), (64, 40)]
)
def test_many_that_answer_nothing_leave_slots_free(
    hosts: int, taken: int
) -> None:
    # Given destinations of which nothing is known, each with many timers
    given = Slots()
    given.enter_in_turn(hosts)

    # Then they have all got some, and have left some
    assert 64 - given.destinations._free == taken
    assert len(given.destinations._calling) == min(hosts, taken)
    # And one that comes then gets a slot, as long as new ones have few
    assert (given.enter(OTHER) is None) == (taken < 40)


def test_the_last_slots_are_for_those_that_answer_at_once() -> None:
    # Given 40 that have answered once, and one that is known as fast
    given = Slots()
    for number in range(40):
        given.call(0.005, (f"{number}.example", 80))
    given.prove(OTHER)
    # When those take what they can get, Then they leave it some
    given.enter_in_turn(40)
    assert given.destinations._free == 7
    assert given.fill(OTHER) == 5


def test_the_last_slots_are_for_those_that_answered_lately() -> None:
    # Given two that are fast, of which one has not been called for long,
    # and 60 others
    given = Slots()
    given.prove(HOST)
    given.now += 61
    given.prove(OTHER)
    origins = [(f"{number}.example", 80) for number in range(60)]
    for origin in origins:
        given.prove(origin)
    # When those have a call each, Then the last slots are for the other one
    for origin in origins:
        assert given.enter(origin) is None
    assert given.enter(HOST) is not None
    assert given.enter(OTHER) is None


def test_one_that_answers_passes_those_that_do_not() -> None:
    # Given 20 destinations that answer nothing, and one that does
    given = Slots()
    given.prove(OTHER)
    given.enter_in_turn(20)
    # Then it gets most of the rest
    assert given.destinations._free == 40
    assert given.fill(OTHER) == 35


def test_new_names_at_one_address_have_one_share() -> None:
    # Given names that were never called, and all lead to one address
    given = Slots()
    for number in range(100):
        origin = (f"{number}.example", 80)
        if given.enter(origin) is None and given.locate(origin, "192.0.2.1"):
            given.destinations.leave(origin, hung=None)
    # Then they have a share of the slow ones' half
    assert given.destinations._free == 34
    # And a name that was called there is not even asked about
    given.now += DEADLINE
    given.leave(origin=("0.example", 80), hung=True)
    assert given.enter(("0.example", 80)) is not None
    # And new ones at other addresses are called
    for number in range(8):
        origin = (f"{number}.other.example", 80)
        assert given.enter(origin) is None
        assert given.locate(origin, f"192.0.2.{number + 2}") is None


def test_a_name_that_answers_is_not_judged_by_its_address() -> None:
    # Given a name that answers at once, at the address of many that do not
    given = Slots()
    given.prove()
    for number in range(30):
        origin = (f"{number}.example", 80)
        assert given.enter(origin) is None
        assert given.locate(origin, "192.0.2.1") is None
    # Then it gets what is left all the same
    assert given.enter() is None
    assert given.locate(HOST, "192.0.2.1") is None
    assert given.fill() > 20


def test_many_that_are_slow_have_half_of_the_slots() -> None:
    # Given 100 names at 100 addresses that take 2 s
    given = Slots()
    origins = [(f"{number}.example", 80) for number in range(100)]
    for origin in origins:
        given.call(2.0, origin)
    # When all are to be called, Then they get half of the slots
    given.enter_in_turn(100)
    assert given.destinations._free == 32
    # And eight hosts that were never called get one each
    assert sum(
        given.enter((f"{number}.new.example", 80)) is None
        for number in range(20)
    ) == 8


def test_who_is_deferred_comes_back_at_the_pace_of_the_calls() -> None:
    # Given calls that take 2 s, as many under way as may be
    given = Slots()
    given.call(2.0)
    share = given.fill()
    assert share == SLOW

    # When 500 more are refused at once
    deferrals = [given.refusal() for _ in range(500)]

    # Then they come back one by one, with never more than fit in
    for number, deferral in enumerate(deferrals, 2):
        booked = number * 2.0 / share
        assert 0.75 * booked <= max(deferral.wait, 0.1)
        assert deferral.wait <= max(booked, 0.1)
    assert not any(deferral.hanging for deferral in deferrals)
    assert deferrals[0].reason == (
        f"busy: {SLOW} calls to example.com:443 are under way, its share"
    )

    # And however many there are, none waits for longer than a minute
    waits = [given.refusal().wait for _ in range(600)]
    assert 45 <= min(waits[-100:]) < 48 < 57 < max(waits) <= 60


def test_calls_without_an_answer_slow_the_pace_down() -> None:
    # Given a destination of which nothing is known, with calls under way
    given = Slots()
    given.fill()
    # When more are refused later on
    given.now += 8.0
    waits = [given.refusal().wait for _ in range(100)]
    # Then a call is reckoned to take at least as long as it has taken,
    # and the destination to have the share of one that answers
    assert 0.75 * 99 * 8 / SLOW <= waits[-1] <= 101 * 8 / SLOW
    # And when one has hung, that of one that doesn't
    given.now += 2.0
    given.leave(hung=True)
    given.now += 60.0
    given.fill()
    waits = [given.refusal().wait for _ in range(2)]
    assert 8 < waits[0] < 14 < waits[1] < 22


def test_newcomers_leave_room_to_those_who_were_deferred() -> None:
    # Given a destination that calls wait for
    given = Slots()
    given.prove()
    assert given.fill() == ALONE
    given.now += 0.05
    for _ in range(100):
        given.refusal()
    given.leave(10)
    # Then newcomers get what is left up to a limit, who returns gets all
    assert given.fill() == 7
    assert given.fill(returning=True) == 3
    # And when all who wait must have been, newcomers get all, too
    given.now += 0.05
    given.leave(10)
    assert given.fill() == 10


def test_one_that_answers_is_not_judged_by_the_few_that_hang() -> None:
    # Given a lively destination, of whose calls only those remain that hang
    given = Slots()
    for _ in range(10):
        given.call(0.05)
    assert given.fill() == ALONE
    given.now += 0.05
    given.leave(40)
    given.now += 0.9
    assert given.fill() == 40
    # Then the pace is that of the answers
    waits = [given.refusal().wait for _ in range(200)]
    assert waits[-1] < 201 * 0.05 / ALONE + 0.01


def test_what_is_remembered_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given one that hangs, and one with a call under way
    monkeypatch.setattr(fairness, "_MOST_IDLE", 10)
    given = Slots()
    given.open()
    assert given.enter(OTHER) is None
    # When many others are called, and the first is asked for meanwhile
    for number in range(100):
        given.call(0.001, (f"{number}.example", 80))
        if number % 5 == 0:
            assert given.refusal().hanging
    # Then it and the one with the call are remembered, of the rest the last
    assert len(given.destinations._idle) == 10
    assert HOST in given.destinations._idle
    assert ("99.example", 80) in given.destinations._idle
    given.leave(origin=OTHER)


def test_a_host_that_hangs_leaves_the_last_slots_to_others() -> None:
    # Given all but seven slots are taken
    given = Slots()
    given.call(DEADLINE)
    origins = [(f"{number}.example", 80) for number in range(64 - 7)]
    for origin in origins:
        given.call(0.005, origin)
    for origin in origins:
        assert given.enter(origin) is None
    # Then one that hung is not called again before there are more
    assert given.enter() is not None
    assert given.enter(OTHER) is None
    given.leave(origin=OTHER)
    given.leave(origin=("0.example", 80))
    given.leave(origin=("1.example", 80))
    assert given.enter() is None


def test_an_address_is_named_as_in_a_url() -> None:
    given = Slots(1)
    origin = ("2001:db8::1", 8080)
    assert given.enter(origin) is None
    assert "[2001:db8::1]:8080" in given.refusal(origin).reason


def test_threads_give_back_what_they_take() -> None:
    # Given more threads than slots, and a clock that is slow to read
    slots, threads = 2, 8
    readers: list[None] = []
    most_readers = 0

    def clock() -> float:
        nonlocal most_readers
        readers.append(None)
        most_readers = max(most_readers, len(readers))
        time.sleep(0)
        readers.pop()
        return time.monotonic()

    destinations = Destinations(slots, clock)
    together = threading.Barrier(threads)

    def hammer(seed: int) -> int:
        choose = random.Random(seed)
        entered = 0
        together.wait(10)
        for _ in range(1000):
            origin = (f"{choose.randrange(3)}.example", 80)
            if destinations.enter(origin) is None:
                entered += 1
                assert 0 <= destinations._free < slots
                destinations.leave(origin, hung=choose.random() < 0.01)
        return entered

    # When all enter and leave
    with ThreadPoolExecutor(threads) as pool:
        entered = sum(pool.map(hammer, range(threads)))

    # Then one did after the other, never more than slots, and none is taken
    assert most_readers == 1
    assert entered > 1000
    assert destinations._free == slots
    assert not destinations._calling
    assert not any(d.starts for d in destinations._idle.values())


@pytest.mark.parametrize(
    ("took", "leaves", "waits"),
    [(0.005, True, True), (0.005, False, True), (5.0, False, False)],
)
def test_a_call_waits_a_moment_where_calls_are_quick(
    took: float, leaves: bool, waits: bool
) -> None:
    # Given a host that has all the calls it may have, of a certain length
    destinations = Destinations(8)
    assert destinations.enter(HOST) is None
    destinations._calling[HOST].starts[0] -= took
    destinations.leave(HOST, hung=False)
    while not (refused := destinations.enter(HOST)):
        pass
    assert refused.wait >= destination.SHORTEST_WAIT

    # When one more is to be made, Then it waits where that is of use
    with ThreadPoolExecutor(1) as threads:
        began = time.monotonic()
        entering = threads.submit(destinations.enter, HOST)
        if leaves:
            destinations.leave(HOST, hung=False)
        assert (entering.result() is None) == leaves
        waited = time.monotonic() - began
    if not leaves:
        assert (waited >= destination.PATIENCE) == waits

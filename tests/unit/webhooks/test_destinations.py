"""Shares of slots and paced deferrals, on a virtual clock."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.webhooks import destinations as module
from apps.webhooks.destinations import Deferral, Destinations, Origin

HOST = ("example.com", 443)
OTHER = ("other.example", 443)
DEADLINE = 10.0
#: So many of 64 slots are for one that answers, while there is no other.
ALONE = 57


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

    def open(self) -> None:
        """Let as many calls hang, at once, as it takes to open."""
        for _ in range(module.HUNG_IN_A_ROW):
            assert self.enter() is None
        self.now += DEADLINE
        self.leave(module.HUNG_IN_A_ROW, hung=True)


@pytest.mark.parametrize(
    ("slots", "silent", "lively"),
    [
        (1, 1, 1), (2, 1, 2), (4, 1, 4), (8, 2, 8), (16, 3, 15),
        (64, 11, ALONE), (256, 44, 226),
    ],
)
def test_one_that_is_alone_gets_most_slots(
    slots: int, silent: int, lively: int
) -> None:
    # Given nothing is known of a destination, it gets a part
    given = Slots(slots)
    assert given.fill() == silent
    # When the first is answered, it gets nearly all
    given.leave()
    assert given.fill() == lively - silent + 1
    # And when it has not been called for long, the same
    given.leave(lively)
    given.now += 100
    assert given.fill() == lively
    # And when it answers none of them for long, it gets no more
    given.leave(lively - silent)
    given.now += 3
    assert given.enter() is not None
    # And in the end all slots are free
    given.leave(silent)
    assert given.destinations._free == slots


@pytest.mark.parametrize(
    ("hosts", "taken"), [(5, 28), (20, 41), (40, 47), (64, 60)]
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
    # And one that comes then gets a slot, but for the last four
    assert (given.enter(OTHER) is None) == (taken < 60)


def test_the_last_slots_are_for_those_that_answer() -> None:
    # Given one that has answered within the minute, and one after another
    # that answers nothing and takes what it can get
    given = Slots()
    given.call(0.005, OTHER)
    given.now += 50
    for number in range(40):
        given.fill((f"{number}.example", 80))
    assert given.destinations._free == 4
    # Then the first gets slots, as long as it is known
    assert given.enter(OTHER) is None
    given.leave(origin=OTHER)
    given.now += 61
    assert given.enter(OTHER) is not None


def test_one_that_answers_passes_those_that_do_not() -> None:
    # Given 20 destinations that answer nothing, and one that does
    given = Slots()
    given.call(0.005, OTHER)
    given.enter_in_turn(20)
    # Then it gets most of the rest
    assert given.destinations._free == 23
    assert given.fill(OTHER) == 19


def test_who_is_deferred_comes_back_at_the_pace_of_the_calls() -> None:
    # Given calls that take 2 s, as many under way as may be
    given = Slots()
    given.call(2.0)
    share = given.fill()
    assert share == ALONE

    # When 1,000 more are refused at once
    deferrals = [given.refusal() for _ in range(1000)]

    # Then they come back one by one, with never more than fit in
    for number, deferral in enumerate(deferrals, 2):
        booked = number * 2.0 / share
        assert 0.75 * booked <= max(deferral.wait, 0.1)
        assert deferral.wait <= max(booked, 0.1)
    assert not any(deferral.hanging for deferral in deferrals)
    assert deferrals[0].reason == (
        f"busy: {ALONE} calls to example.com:443 are under way, its share"
    )

    # And however many there are, none waits for longer than a minute
    waits = [given.refusal().wait for _ in range(1000)]
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
    assert 0.75 * 99 * 8 / ALONE <= waits[-1] <= 101 * 8 / ALONE
    # And when one has hung, that of one that doesn't
    given.now += 2.0
    given.leave(hung=True)
    given.now += 60.0
    given.fill()
    waits = [given.refusal().wait for _ in range(2)]
    assert 8 < waits[0] < 12 < waits[1] < 18


def test_newcomers_leave_room_to_those_who_were_deferred() -> None:
    # Given a destination that calls wait for
    given = Slots()
    given.call(1.0)
    given.fill()
    for _ in range(100):
        given.refusal()
    given.leave(10)
    # Then newcomers get what is left up to a limit, who returns gets all
    assert given.fill() == 7
    assert given.fill(returning=True) == 3
    # And when all who wait must have been, newcomers get all, too
    given.now += 3.0
    given.leave(10)
    assert given.fill() == 10


def test_one_that_answers_is_not_judged_by_the_few_that_hang() -> None:
    # Given a lively destination, of whose calls only those remain that hang
    given = Slots()
    given.call(0.1)
    assert given.fill() == ALONE
    given.now += 0.1
    given.leave(40)
    given.now += 0.9
    assert given.fill() == 40
    # Then the pace is that of the answers
    waits = [given.refusal().wait for _ in range(100)]
    assert waits[-1] < 101 * 0.1 / ALONE + 0.01


def test_what_is_remembered_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given one that hangs, and one with a call under way
    monkeypatch.setattr(module, "_MOST_IDLE", 10)
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
    for number in range(64 - 7):
        assert given.enter((f"{number}.example", 80)) is None
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
    assert refused.wait >= module.SHORTEST_WAIT

    # When one more is to be made, Then it waits where that is of use
    with ThreadPoolExecutor(1) as threads:
        began = time.monotonic()
        entering = threads.submit(destinations.enter, HOST)
        if leaves:
            destinations.leave(HOST, hung=False)
        assert (entering.result() is None) == leaves
        waited = time.monotonic() - began
    if not leaves:
        assert (waited >= module.PATIENCE) == waits

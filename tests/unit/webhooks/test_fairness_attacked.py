"""Many names, slow in many ways, against healthy hosts, simulated.

An attacker has 300 timers, each of which is due again at once after it was
answered, as if it had retries without end.
"""

import itertools
from collections.abc import Callable

import pytest

from tests.unit.webhooks.test_fairness_simulated import (
    DEADLINE,
    Simulation,
    timers,
)

Behaviour = Callable[[float], float]


def always(seconds: float) -> Behaviour:
    """Answer after so many seconds."""
    return lambda now: seconds


def in_turn() -> Behaviour:
    """Answer the next call in the next way."""
    ways = itertools.cycle([0.5, 2.0, 9.0, DEADLINE])
    return lambda now: next(ways)


ATTACKERS: dict[str, Callable[[int], Behaviour]] = {
    "0.5 s": lambda _: always(0.5),
    "2 s": lambda _: always(2.0),
    "9 s": lambda _: always(9.0),
    "never": lambda _: always(DEADLINE),
    "some of each": lambda number: always(
        [0.5, 2.0, 9.0, DEADLINE][number % 4]
    ),
    "each in turn": lambda _: in_turn(),
}


@pytest.mark.parametrize("behaviour", ATTACKERS)
@pytest.mark.parametrize("addresses", [1, 300])
def test_healthy_hosts_beside_many_slow_names(
    addresses: int, behaviour: str
) -> None:
    # Given 300 timers at many names, due again and again
    simulation = Simulation()
    bad = []
    for number in range(300):
        (timer,) = timers(1, "bad", 10, ATTACKERS[behaviour](number))
        timer.origin = (f"{number}.bad", 80)
        timer.address = f"192.0.2.{number % addresses}"
        timer.again = 0.1
        bad.append(timer)
    # When 20 healthy hosts are called, from before that on, and a new one
    # every second
    known = [
        timer
        for number in range(20)
        for timer in timers(100, f"{number}.good", 40, 0.005)
    ]
    for timer in known:
        timer.due -= 5
    new = [timers(1, f"{number}.new", 0, 0.005)[0] for number in range(30)]
    for number, timer in enumerate(new):
        timer.due += 1.5 + number
    simulation.run([*bad, *known, *new], until=60)
    # Then they are on time
    late = sorted(timer.late for timer in known)
    assert late[int(0.99 * len(late))] < 0.25
    # And so are the new ones, but for some while so many addresses are new
    newly_late = sum(timer.late > 0.25 for timer in new)
    assert newly_late <= (0 if addresses == 1 else 10)
    # And the attackers are called all the same
    assert sum(timer.called_at < 60 for timer in bad) > 20


@pytest.mark.parametrize("address", [None, "192.0.2.1"])
def test_names_that_are_never_used_again(address: str | None) -> None:
    # Given twenty timers a second, each at a name of its own that hangs
    simulation = Simulation()
    bad = []
    for number in range(800):
        (timer,) = timers(1, f"{number}.bad", 40, DEADLINE)
        timer.address = address or timer.address
        bad.append(timer)
    # When healthy hosts are called, known ones and new ones
    known = timers(2000, "good", 40, 0.005)
    new = [
        timer
        for number in range(100)
        for timer in timers(1, f"{number}.new", 40, 0.005)
    ]
    simulation.run([*bad, *known, *new], until=60)
    # Then the known one is on time, and new ones are unless all addresses
    # are new
    late = sorted(timer.late for timer in known)
    assert late[int(0.99 * len(late))] < 0.25
    if address:
        assert max(timer.late for timer in new) < 0.25

"""Timers that share a window are spread evenly over it."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from random import Random

import pytest

from apps.timers.moments import spread

ROOT = Path(__file__).resolve().parents[3]
MIDNIGHT = datetime(2026, 12, 25, tzinfo=UTC)
DAY = 86_400
EACH = 2500

# The parent has begun its sequence before it forks. Each line is one process.
FORKS = f"""
import os
from datetime import UTC, datetime, timedelta
from apps.timers.moments import spread

def take(turns):
    found = [
        spread({DAY}, datetime(2026, 12, 25, tzinfo=UTC)) for _ in range(turns)
    ]
    print(*(later // timedelta(microseconds=1) for later in found), flush=True)

take({EACH})
for _ in range(3):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        take({EACH})
        os._exit(0)
"""


@pytest.fixture(scope="module")
def sequences() -> list[list[float]]:
    """Return places from 0 to 1, as four processes chose them."""
    printed = subprocess.run(
        [sys.executable, "-c", FORKS], cwd=ROOT, check=True, text=True,
        stdout=subprocess.PIPE,
    ).stdout
    return [
        [int(microseconds) / DAY / 10**6 for microseconds in line.split()]
        for line in printed.splitlines()
    ]


def fullest(places: list[float], parts: int) -> float:
    """Return how many times its share the fullest part has."""
    counts = Counter(min(int(place * parts), parts - 1) for place in places)
    return max(counts.values()) * parts / len(places)


def test_timers_of_four_processes_are_even(
    sequences: list[list[float]]
) -> None:
    places = list(chain.from_iterable(sequences))
    random = Random(1)
    by_chance = [random.random() for _ in places]

    assert len(places) == 10_000
    assert fullest(places, 10) < 1.02
    assert fullest(places, 100) < 1.1 < fullest(by_chance, 100)


def test_forked_processes_do_not_share_a_sequence(
    sequences: list[list[float]]
) -> None:
    """Not even at another place of it; few meet by chance."""
    assert len(set(chain.from_iterable(sequences))) > 4 * EACH - 10


@pytest.mark.parametrize("length", [5, 50, 500])
def test_timers_in_a_row_do_not_clump(
    sequences: list[list[float]], length: int
) -> None:
    random = Random(1)
    by_chance = [random.random() for _ in range(EACH)]

    closest = [
        nearest(chosen[first:first + length]) * length
        for chosen in sequences
        for first in range(0, EACH, length)
    ]
    closest_by_chance = [
        nearest(by_chance[first:first + length]) * length
        for first in range(0, EACH, length)
    ]

    assert min(closest) > 0.38
    assert min(closest_by_chance) < 0.02


def nearest(places: list[float]) -> float:
    return min(later - sooner for sooner, later in pairwise(sorted(places)))


def test_windows_that_are_used_in_turn_are_each_even() -> None:
    """144 steps of one sequence come back to nearly the same place."""
    starts = [MIDNIGHT + timedelta(minutes=minute) for minute in range(144)]
    chosen = [[spread(DAY, start) for start in starts] for _ in range(20)]

    for found in zip(*chosen, strict=True):
        assert fullest([each.total_seconds() / DAY for each in found], 4) < 1.5


@pytest.mark.parametrize("window", [1, 2, 60, DAY])
def test_a_timer_fires_within_its_window(window: int) -> None:
    found = [spread(window, MIDNIGHT) for _ in range(1000)]

    assert min(found) >= timedelta(0)
    assert max(found) <= timedelta(seconds=window)
    assert max(found) - min(found) > timedelta(seconds=window * 0.99)

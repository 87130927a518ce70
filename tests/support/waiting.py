"""Waiting for something to become true, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

#: How many times as long a busy machine may take. A test that passes does not
#: wait.
PATIENCE = 3


def at_best(
    measure: Callable[[], float], *, under: float, of: int = 3
) -> None:
    """Assert that one of a few measurements is under a bound.

    A machine that stands still for a moment may spoil one of them. A fault
    spoils all.
    """
    found: list[float] = []
    while not found or found[-1] >= under:
        assert len(found) < of, f"{found} are not under {under:g}"
        found.append(measure())


def eventually(
    probe: Callable[[], Value],
    *,
    within: float = 10.0,
    every: float = 0.02,
    what: Callable[[], object] | None = None,
) -> Value:
    """Return the probe's first true value.

    It should come `within` seconds; the test fails after three times that,
    and tells `what` there is instead.
    """
    deadline = time.monotonic() + PATIENCE * within
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"did not happen within {PATIENCE * within:g} s;"
                f" there is {what() if what else value!r}"
            )
        time.sleep(every)
    return value

"""Waiting for something to become true, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def eventually(
    probe: Callable[[], Value], *, within: float = 10.0, every: float = 0.02
) -> Value:
    """Return the probe's first true value; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"did not happen within {within:g} s; last: {value!r}"
            )
        time.sleep(every)
    return value

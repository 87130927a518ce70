"""Values that are made at most once in a while, however often they are used.

A hundred open tabs ask Postgres as often as one.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """Makes a value for each account; it is used for `seconds`."""

    def __init__(self, make: Callable[[int], T], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._lock = threading.Lock()
        self._made: dict[int, tuple[float, T]] = {}

    def __call__(self, account: int) -> T:
        """Return the value; raise what making it raises."""
        with self._lock:
            made_at, value = self._made.get(account, (None, None))
            if made_at is None or made_at + self._seconds < time.monotonic():
                value = self._make(account)
                self._made[account] = time.monotonic(), value
            return value  # type: ignore[return-value]

    def forget(self) -> None:
        """Make all values anew."""
        with self._lock:
            self._made.clear()

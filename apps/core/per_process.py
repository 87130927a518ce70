"""Things that a process has one of, each made when it is first needed."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes a thing at the first call, and returns it at each call.

    With functools.cache, every thread of a first burst would make a
    connection pool, a thread or a TLS context of its own.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return the thing."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def forget(self) -> T | None:
        """Return the thing if it was made; the next call makes another."""
        with self._lock:
            return self._made.pop() if self._made else None

"""What a process has read and relies on for a while."""

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

#: For how long a process relies on what it has read of an account, in
#: seconds. Meanwhile it may not know of a change.
LIFETIME = 2.0


class Remembered(Generic[Key, Value]):
    """What was read, by its key. Many threads may use it.

    It has at most `most` values: when it is full, it forgets all of them.
    """

    __slots__ = ("_known", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        #: Until when a value counts, on `time.monotonic()`, and the value.
        self._known: dict[Key, tuple[float, Value]] = {}

    def get(self, key: Key) -> Value | None:
        """Return a value that counts, None if it has to be read."""
        found = self._known.get(key)
        if found is not None and time.monotonic() < found[0]:
            return found[1]
        return None

    def last(self, key: Key) -> Value | None:
        """Return the value that was read last, None if there is none."""
        found = self._known.get(key)
        return found and found[1]

    def keep(self, key: Key, value: Value, until: float) -> None:
        """Keep a value that counts until a time, on `time.monotonic()`."""
        if len(self._known) >= self.most:
            self._known.clear()
        self._known[key] = until, value

    def forget(self) -> None:
        """Forget all values."""
        self._known.clear()

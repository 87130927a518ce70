"""Write-behind: a group commit for what nobody waits for.

To wake a thread for an answer that it does not need costs more than the write
itself.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")

#: How long a caller writes for others, in seconds. Then one of them does.
_SHIFT = 1.0


class WriteBehind(Generic[Item]):
    """Turns many calls of `add` into few calls of `flush`.

    A caller that adds an item while nobody writes becomes the writer. It
    writes before `add` returns, and goes on while others add items; their
    calls return at once. So every item is in the hands of a thread that is
    inside `add`, and there is no thread to start or to stop. If `flush`
    raises, the writer tries to write everything else, then raises as well.
    When a flush takes long, a second caller begins to write later items.
    """

    def __init__(
        self, flush: Callable[[Sequence[Item]], None], *, most: int = 500
    ) -> None:
        self._flush = flush
        self._most = most
        self._mutex = threading.Lock()
        self._waiting: deque[Item] = deque()
        self._writer: int | None = None     # a thread's identifier
        self._relief_at = 0.0

    def add(self, item: Item) -> None:
        """Write the item, or leave it to the caller that writes."""
        me = threading.get_ident()
        with self._mutex:
            self._waiting.append(item)
            now = time.monotonic()
            if self._writer is not None and now < self._relief_at:
                return
            self._writer, self._relief_at = me, now + _SHIFT
        failure: Exception | None = None
        while group := self._next(me):
            try:
                self._flush(group)
            except Exception as error:
                failure = error
        if failure is not None:
            raise failure

    def _next(self, me: int) -> list[Item]:
        """Return what this thread is to write now, nothing if it is done."""
        with self._mutex:
            if self._writer != me:
                return []
            size = min(len(self._waiting), self._most)
            if not size:
                self._writer = None
            return [self._waiting.popleft() for _ in range(size)]

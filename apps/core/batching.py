"""Batching: callers on many threads share one write.

A commit costs Postgres one flush to disk whether it holds one row or a
hundred, so callers that arrive during one flush go together in the next.

* `GroupCommit` is for callers that wait for their result.
* `WriteBehind` is for callers that need no answer, but must not leave before
  somebody writes their item: to wake each of them would cost more than the
  write itself.
* `BackgroundWriter` is for callers that may not wait at all.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")

#: How long a caller writes for others, in seconds. Then one of them does.
_SHIFT = 1.0
#: The pause before a background writer tries a failed write again, in seconds.
_PAUSE = 0.2


class _Call(Generic[Item, Result]):
    """One caller's item, and in the end its result or its exception."""

    __slots__ = ("done", "error", "item", "leads", "result", "wake")

    def __init__(self, item: Item) -> None:
        self.item = item
        # Acquired until this caller may go on. An Event costs several times
        # as much.
        self.wake = threading.Lock()
        self.wake.acquire()
        self.leads = False
        self.done = False
        self.error: BaseException | None = None
        self.result: Result | None = None

    def answer(self) -> Result:
        """Return the result, or raise an exception of this caller's own."""
        if self.error is not None:
            # Raising one object in many threads would mix tracebacks.
            raise type(self.error)(*self.error.args) from self.error
        return self.result  # type: ignore[return-value]


class GroupCommit(Generic[Item, Result]):
    """Turns many concurrent `submit` calls into few calls of `flush`.

    `flush` takes a sequence of items and returns as many results, in the
    same order. It runs on one of the callers' threads, never twice at the
    same time; there is no thread to start or to stop.

    If `flush` raises one of `singly` for a group, each item is flushed by
    itself, so that one bad item fails alone; any other exception reaches
    every caller of the group. `most` is the largest group.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        most: int = 500,
        singly: tuple[type[Exception], ...] = (),
    ) -> None:
        self._flush = flush
        self._most = most
        self._singly = singly
        self._mutex = threading.Lock()
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._led = False

    def submit(self, item: Item, *, timeout: float) -> Result:
        """Flush the item together with others and return its result.

        Raises TimeoutError when that takes over `timeout` seconds: the
        item may or may not have been written.
        """
        call: _Call[Item, Result] = _Call(item)
        with self._mutex:
            self._waiting.append(call)
            call.leads = not self._led
            self._led = True
        if not call.leads:
            in_time = call.wake.acquire(timeout=timeout)
            if not in_time and self._abandon(call):
                raise TimeoutError(f"no answer within {timeout:g} s")
        if call.leads:
            self._lead()
        return call.answer()

    def _abandon(self, call: _Call[Item, Result]) -> bool:
        """Give up on a call, unless its answer or the lead just came."""
        with self._mutex:
            if call.done or call.leads:
                return False
            if call in self._waiting:
                self._waiting.remove(call)
            return True

    def _lead(self) -> None:
        """Flush one group, then hand the lead to the next caller."""
        with self._mutex:
            size = min(len(self._waiting), self._most)
            group = [self._waiting.popleft() for _ in range(size)]
        try:
            self._settle(group)
        finally:
            with self._mutex:
                for call in group:
                    call.done = True
                if self._waiting:
                    self._waiting[0].leads = True
                    self._waiting[0].wake.release()
                else:
                    self._led = False
            for call in group:
                if not call.leads:
                    call.wake.release()

    def _settle(self, group: Sequence[_Call[Item, Result]]) -> None:
        """Give each call of the group its result or its exception."""
        try:
            results = self._flush([call.item for call in group])
            for call, result in zip(group, results, strict=True):
                call.result = result
        except BaseException as error:
            if len(group) > 1 and isinstance(error, self._singly):
                for call in group:
                    self._settle([call])
                return
            for call in group:
                call.error = error
            if not isinstance(error, Exception):
                raise  # an interrupt is this thread's, too


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


class BackgroundWriter(Generic[Key, Item]):
    """A thread that writes items in batches, soon after they are added.

    An item replaces the one with the same key that is not written yet. If
    `flush` raises one of `again`, its items are written later, until close();
    any other exception is logged, and they are dropped. `room` is how many
    items may wait, and `most` how many are written together.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], object],
        *,
        key: Callable[[Item], Key],
        name: str,
        room: float = float("inf"),
        most: int = 500,
        grace: float = 0.0,
        again: tuple[type[Exception], ...] = (),
    ) -> None:
        """Start the thread; `grace` is for add_later(), in seconds."""
        self.grace = grace
        self._flush = flush
        self._key = key
        self._room = room
        self._most = most
        self._again = again
        self._waiting: dict[Key, Item] = {}
        #: Items of add_later(), and since when they wait, in that order.
        self._later: dict[Key, tuple[float, Item]] = {}
        self._news = threading.Condition()
        self._is_stopping = self._has_ended = False
        self._thread = threading.Thread(
            target=self._run, name=name, daemon=True
        )
        self._thread.start()

    def add(self, item: Item) -> bool:
        """Write the item soon; False if there is no room, or after the end."""
        with self._news:
            if self._has_ended or len(self._waiting) >= self._room:
                return False
            self._waiting[self._key(item)] = item
            self._news.notify()
            return True

    def waiting(self) -> int:
        """Return how many items are to be written soon."""
        with self._news:
            return len(self._waiting)

    def add_later(self, item: Item) -> None:
        """Write the item after the grace, unless it is discarded before."""
        key = self._key(item)
        with self._news:
            self._waiting.pop(key, None)
            # The thread looks at it the next time that it wakes.
            self._later[key] = time.monotonic(), item

    def discard(self, *keys: Key) -> None:
        """Drop the items with these keys that are not written yet."""
        with self._news:
            for key in keys:
                self._waiting.pop(key, None)
                self._later.pop(key, None)

    def close(self, timeout: float) -> list[Item]:
        """Write what waits, for `timeout` seconds at most, and end.

        Returns the items that could not be written.
        """
        with self._news:
            self._is_stopping = True
            self._news.notify()
        self._thread.join(timeout)
        with self._news:
            self._has_ended = True
            self._move_due()
            left = list(self._waiting.values())
            self._waiting.clear()
        return left

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self._flush(batch)
            except self._again:
                self._put_back(batch)
            except Exception:  # one bad write must not end the thread
                logger.exception(f"{self._thread.name} not written")

    def _next_batch(self) -> list[Item]:
        """Wait for items; an empty list means that it is time to end."""
        with self._news:
            self._move_due()
            while not self._waiting and not self._is_stopping:
                self._news.wait(self._until_due())
                self._move_due()
            if self._has_ended or not self._waiting:
                self._has_ended = True
                return []
            keys = list(islice(self._waiting, self._most))
            return [self._waiting.pop(key) for key in keys]

    def _until_due(self) -> float | None:
        """Return the seconds until the grace of an item is over, if any."""
        for since, _ in self._later.values():
            return max(0.0, since + self.grace - time.monotonic())
        return None

    def _move_due(self) -> None:
        """Let those items of add_later() be written whose grace is over."""
        latest = time.monotonic() - self.grace
        while self._later:
            key, (since, item) = next(iter(self._later.items()))
            if since > latest and not self._is_stopping:
                return
            del self._later[key]
            self._waiting[key] = item

    def _put_back(self, items: Sequence[Item]) -> None:
        """Keep items for another try, and wait; leave newer ones unchanged."""
        with self._news:
            for item in items:
                key = self._key(item)
                if key not in self._later:
                    self._waiting.setdefault(key, item)
            self._news.wait(_PAUSE)
            self._has_ended = self._is_stopping

"""Write-behind: nothing waits but the one that writes, and nothing stays."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from apps.core import batching
from apps.core.batching import WriteBehind
from tests.support.waiting import eventually


class Flush:
    """Remembers its groups, and can be held up."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> None:
        self.groups.append(list(items))
        assert self.gate.wait(10)


def begin(
    writes: WriteBehind[int], flush: Flush, pool: ThreadPoolExecutor
) -> Future[None]:
    """Have another thread write item 0, until the gate is opened."""
    flush.gate.clear()
    writer = pool.submit(writes.add, 0)
    eventually(lambda: flush.groups)
    return writer


def test_what_one_adds_alone_is_written_when_it_returns() -> None:
    flush = Flush()
    writes = WriteBehind(flush)
    for item in range(3):
        writes.add(item)
    assert flush.groups == [[0], [1], [2]]


def test_others_go_on_and_theirs_go_together() -> None:
    flush = Flush()
    writes = WriteBehind(flush, most=4)
    with ThreadPoolExecutor(1) as pool:
        # Given a flush under way
        writer = begin(writes, flush, pool)

        # When others add theirs, then they do not wait
        for item in range(1, 7):
            writes.add(item)
        assert flush.groups == [[0]]

        # And the one that writes is done only when all of it is written
        assert not writer.done()
        flush.gate.set()
        writer.result(5)
    assert flush.groups == [[0], [1, 2, 3, 4], [5, 6]]


def test_one_that_has_written_for_long_is_relieved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "_SHIFT", 0.0)
    flush = Flush()
    writes = WriteBehind(flush)
    with ThreadPoolExecutor(2) as pool:
        first = begin(writes, flush, pool)
        second = pool.submit(writes.add, 1)
        eventually(lambda: len(flush.groups) == 2)
        flush.gate.set()
        first.result(5)
        second.result(5)
    writes.add(2)
    assert flush.groups == [[0], [1], [2]]


def test_who_writes_gets_the_error_after_it_has_written_the_rest() -> None:
    flush = Flush()

    def fail_once(items: Sequence[int]) -> None:
        flush(items)
        if items[0] == 0:
            raise OSError("lost")

    writes = WriteBehind(fail_once)
    with ThreadPoolExecutor(1) as pool:
        writer = begin(writes, flush, pool)
        writes.add(1)
        flush.gate.set()
        with pytest.raises(OSError, match="lost"):
            writer.result(5)
    assert flush.groups == [[0], [1]]
    writes.add(2)
    assert flush.groups == [[0], [1], [2]]


def test_many_threads_leave_nothing_behind() -> None:
    flush = Flush()

    def take_a_while(items: Sequence[int]) -> None:
        flush(items)
        time.sleep(0.0002)  # a commit; without one, none would be behind

    writes = WriteBehind(take_a_while, most=20)

    def add(thread: int) -> None:
        for number in range(200):
            writes.add(thread * 1000 + number)

    with ThreadPoolExecutor(32) as pool:
        for done in [pool.submit(add, thread) for thread in range(32)]:
            done.result(10)
    written = [item for group in flush.groups for item in group]
    assert len(written) == len(set(written)) == 32 * 200
    assert len(flush.groups) < len(written)

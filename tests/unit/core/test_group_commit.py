"""Group commit: shared flushes, each caller's own answer, handed-on lead."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from apps.core.batching import GroupCommit, _Call
from tests.support.waiting import PATIENCE, eventually


class Flush:
    """Doubles its items, remembers its groups, and can be held up."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Callable[[Sequence[int]], BaseException | None] = (
            lambda items: None
        )
        self._alone = threading.Lock()

    def __call__(self, items: Sequence[int]) -> list[int]:
        assert self._alone.acquire(blocking=False), "two flushes at once"
        try:
            self.groups.append(list(items))
            assert self.gate.wait(10)
            if error := self.error(items):
                raise error
            return [2 * item for item in items]
        finally:
            self._alone.release()


def submit_together(
    writes: GroupCommit[int, int], flush: Flush, items: Sequence[int]
) -> list[Future[int]]:
    """Submit one item, and the others while its flush is under way."""
    flush.gate.clear()
    pool = ThreadPoolExecutor(len(items))
    futures = [pool.submit(writes.submit, items[0], timeout=5)]
    eventually(lambda: flush.groups)
    futures += [pool.submit(writes.submit, i, timeout=5) for i in items[1:]]
    eventually(lambda: len(writes._waiting) == len(items) - 1)
    flush.gate.set()
    pool.shutdown()
    return futures


def test_callers_that_wait_share_a_flush_and_get_their_own_results() -> None:
    # Given a flush under way
    flush = Flush()

    # When ten callers come meanwhile
    futures = submit_together(GroupCommit(flush), flush, range(11))

    # Then they share the next one, and each has its own result
    assert [len(group) for group in flush.groups] == [1, 10]
    assert [future.result() for future in futures] == [
        2 * item for item in range(11)
    ]


def test_a_group_has_a_greatest_size() -> None:
    flush = Flush()
    futures = submit_together(GroupCommit(flush, most=4), flush, range(11))
    assert [len(group) for group in flush.groups] == [1, 4, 4, 2]
    assert sum(future.result() for future in futures) == 110


def test_one_bad_item_fails_alone() -> None:
    # Given a flush that refuses every group with a 3 in it
    flush = Flush()
    flush.error = lambda items: KeyError("three") if 3 in items else None

    # When a 3 is among others
    writes = GroupCommit(flush, singly=(KeyError,))
    futures = submit_together(writes, flush, range(6))

    # Then all the others are written
    failures = [future.exception() for future in futures]
    assert [type(failure) for failure in failures] == [
        KeyError if item == 3 else type(None) for item in range(6)
    ]
    assert flush.groups[2:] == [[item] for item in flush.groups[1]]


@pytest.mark.parametrize("reason", ["raised", "too few", "too many"])
def test_other_errors_reach_each_caller_as_an_exception_of_its_own(
    reason: str,
) -> None:
    # Given a flush that fails for groups, in one of three ways
    flush = Flush()
    flush.error = lambda items: (
        OSError(5, "lost") if reason == "raised" and len(items) > 1 else None
    )
    change = {"raised": 0, "too few": -1, "too many": 1}[reason]

    def flush_wrongly(items: Sequence[int]) -> list[int]:
        results = flush(items)
        if len(items) == 1:
            return results
        return [*results, 0][: len(results) + change]

    # When four callers are in its group
    futures = submit_together(
        GroupCommit(flush_wrongly, singly=(KeyError,)), flush, range(5)
    )

    # Then each gets the error, and none shares the object with another
    assert futures[0].result() == 0
    failures = [future.exception() for future in futures[1:]]
    kind = OSError if reason == "raised" else ValueError
    assert {type(failure) for failure in failures} == {kind}
    assert len({id(failure) for failure in failures}) == 4
    assert len(flush.groups) == 2


def test_after_an_error_the_next_caller_is_served() -> None:
    flush = Flush()
    writes = GroupCommit(flush)
    flush.error = lambda items: KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        writes.submit(1, timeout=1)
    flush.error = lambda items: None
    assert writes.submit(2, timeout=1) == 4


def test_a_caller_waits_no_longer_than_its_timeout() -> None:
    # Given a flush that hangs
    flush = Flush()
    writes = GroupCommit(flush)
    flush.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(writes.submit, 1, timeout=5)
        eventually(lambda: flush.groups)

        # When another caller comes
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"0\.05 s"):
            writes.submit(2, timeout=0.05)

        # Then it gives up in time, and its item is not written later
        assert time.monotonic() - began < PATIENCE
        flush.gate.set()
        assert first.result() == 2
    assert writes.submit(3, timeout=1) == 6
    assert flush.groups == [[1], [3]]


def test_a_caller_in_the_flush_under_way_can_give_up_too() -> None:
    # Given two callers whose common flush hangs
    flush = Flush()
    writes = GroupCommit(flush)
    flush.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(writes.submit, 1, timeout=5)
        eventually(lambda: flush.groups)
        second = pool.submit(writes.submit, 2, timeout=5)
        eventually(lambda: len(writes._waiting) == 1)
        third = pool.submit(writes.submit, 3, timeout=1)
        eventually(lambda: len(writes._waiting) == 2)
        opened, flush.gate = flush.gate, threading.Event()
        opened.set()
        assert first.result() == 2

        # When the one that does not lead runs out of patience
        assert isinstance(third.exception(), TimeoutError)

        # Then the other still gets its result
        flush.gate.set()
        assert second.result() == 4
    assert flush.groups == [[1], [2, 3]]


def test_the_lead_is_taken_even_if_the_wait_has_just_timed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a caller whose wait times out just before it is given the lead
    flush = Flush()
    writes = GroupCommit(flush)
    abandon = GroupCommit._abandon
    answers: list[bool] = []

    def abandon_late(
        self: GroupCommit[Any, Any], call: _Call[Any, Any]
    ) -> bool:
        flush.gate.set()
        eventually(lambda: call.leads)
        answers.append(abandon(self, call))
        return answers[-1]

    monkeypatch.setattr(GroupCommit, "_abandon", abandon_late)
    flush.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(writes.submit, 1, timeout=5)
        eventually(lambda: flush.groups)

        # When it would give up
        second = writes.submit(2, timeout=0.05)
        assert first.result() == 2

    # Then it leads all the same, and who comes later is served
    assert answers == [False]
    assert second == 4
    assert writes.submit(3, timeout=1) == 6


def test_many_threads_get_their_own_results() -> None:
    """A storm of 32 threads: flushes are shared and never overlap."""
    flush = Flush()
    writes = GroupCommit(flush, most=20)

    def take_a_while(items: Sequence[int]) -> None:
        time.sleep(0.0002)  # a commit; without one, nobody would wait

    flush.error = take_a_while

    def write(thread: int) -> bool:
        items = range(thread * 1000, thread * 1000 + 200)
        return all(writes.submit(i, timeout=10) == 2 * i for i in items)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(write, range(32)))
    flushed = [item for group in flush.groups for item in group]
    assert len(flushed) == len(set(flushed)) == 32 * 200
    assert len(flush.groups) < len(flushed)

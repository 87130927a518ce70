"""A background writer: nothing waits for it, and nothing stops it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest

from apps.core.batching import BackgroundWriter
from tests.support.waiting import eventually

Item: TypeAlias = tuple[int, str]
"""A key, and what is written under it."""

Writer: TypeAlias = BackgroundWriter[int, Item]


class Away(Exception):
    """What is written to can't be reached."""


class Flush:
    """Remembers what it was given; fails as told, and can be held up."""

    def __init__(self) -> None:
        self.groups: list[list[Item]] = []
        self.failures: list[Exception] = []
        self.begun = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[Item]) -> None:
        self.begun += 1
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        self.groups.append(list(items))


@pytest.fixture
def flush() -> Flush:
    return Flush()


@pytest.fixture
def make(flush: Flush) -> Iterator[Callable[..., Writer]]:
    made: list[Writer] = []

    def make(**options: Any) -> Writer:
        made.append(
            BackgroundWriter(
                flush, key=lambda item: item[0], name="items", again=(Away,),
                **options,
            )
        )
        return made[-1]

    yield make
    flush.gate.set()
    for writer in made:
        writer.close(5)
        assert not writer._thread.is_alive()


def begin(writer: Writer, flush: Flush) -> None:
    """Have item 0 written, until the gate is opened."""
    flush.gate.clear()
    writer.add((0, "first"))
    eventually(lambda: flush.begun)


def items(*keys: int) -> list[Item]:
    return [(key, "item") for key in keys]


def test_what_comes_during_a_write_goes_together(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    # Given a write that is under way
    writer = make(most=2)
    begin(writer, flush)

    # When more come, of which two are discarded and one is replaced
    for item in items(1, 2, 3, 4, 5):
        assert writer.add(item)
    writer.discard(2, 4, 99)
    writer.add((3, "later"))

    # Then the others are written together, as many as may be
    flush.gate.set()
    eventually(lambda: len(flush.groups) == 3)
    assert flush.groups[1:] == [[(1, "item"), (3, "later")], items(5)]


def test_it_takes_no_more_than_it_has_room_for(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    writer = make(room=2)
    begin(writer, flush)
    assert [writer.add(item) for item in items(1, 2, 3)] == [True, True, False]
    flush.gate.set()
    eventually(lambda: flush.groups[1:] == [items(1, 2)])
    assert writer.add((3, "item"))


def test_what_cannot_be_reached_is_tried_again(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    flush.failures += [Away()] * 2
    make().add((1, "item"))
    eventually(lambda: flush.groups)
    assert flush.groups == [items(1)]


def test_what_is_discarded_meanwhile_is_not_written(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    flush.failures += [Away()] * 1000
    writer = make()
    for item in items(1, 2):
        writer.add(item)
    eventually(lambda: 1 in writer._waiting)
    writer.discard(1)
    eventually(lambda: 1 not in writer._waiting)
    flush.failures.clear()
    eventually(lambda: flush.groups)
    assert (2, "item") in flush.groups[-1]


def test_a_bad_write_does_not_end_the_thread(
    flush: Flush, make: Callable[..., Writer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    flush.failures.append(ValueError("bad"))
    writer = make()
    writer.add((1, "item"))
    eventually(lambda: "items not written" in caplog.text)
    writer.add((2, "item"))
    eventually(lambda: flush.groups)
    assert flush.groups == [items(2)]


def test_closing_writes_what_waits(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    writer = make(most=1, grace=60.0)
    begin(writer, flush)
    writer.add((1, "item"))
    writer.add_later((2, "item"))
    threading.Timer(0.1, flush.gate.set).start()
    assert writer.close(5) == []
    assert flush.groups[1:] == [items(1), items(2)]
    assert not writer.add((3, "item"))


def test_closing_does_not_wait_for_what_cannot_be_reached(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    flush.failures += [Away()] * 1000
    writer = make()
    writer.add((1, "item"))
    eventually(lambda: flush.begun)
    assert writer.close(5) == items(1)
    assert not writer._thread.is_alive()
    assert not writer.add((2, "item"))


def test_closing_returns_what_there_was_no_time_for(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    writer = make(grace=60.0)
    begin(writer, flush)
    writer.add((1, "item"))
    writer.add_later((2, "item"))
    assert writer.close(0.05) == items(1, 2)
    flush.gate.set()
    eventually(lambda: not writer._thread.is_alive())
    assert flush.groups == [[(0, "first")]]


# --- what may wait for its grace -------------------------------------------


def test_it_is_written_when_its_grace_is_over(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    writer = make(grace=0.02)
    begin(writer, flush)
    writer.add((1, "item"))
    writer.add_later((1, "later"))
    flush.gate.set()
    eventually(lambda: len(flush.groups) == 2)
    assert flush.groups[1] == [(1, "later")]


def test_it_is_not_written_once_it_is_discarded(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    writer = make(grace=60.0)
    begin(writer, flush)
    for item in items(1, 2):
        writer.add(item)
    writer.add_later((1, "later"))
    writer.discard(1, 99)
    flush.gate.set()
    writer.close(5)
    assert flush.groups[1:] == [items(2)]


def test_it_waits_while_others_are_written(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    writer = make(grace=60.0)
    begin(writer, flush)
    for item in items(1, 2):
        writer.add(item)
    writer.add_later((1, "later"))
    flush.gate.set()
    eventually(lambda: len(flush.groups) == 2)
    assert flush.groups[1] == items(2)


def test_it_is_not_replaced_by_one_that_could_not_be_written(
    flush: Flush, make: Callable[..., Writer]
) -> None:
    # Given an item that is being written when a later one comes
    writer = make(grace=0.3)
    begin(writer, flush)
    writer.add_later((0, "later"))

    # When that write fails, Then the later one is written
    flush.failures.append(Away())
    flush.gate.set()
    eventually(lambda: flush.groups)
    assert flush.groups == [[(0, "later")]]

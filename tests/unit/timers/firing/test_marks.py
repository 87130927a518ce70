"""The writer of marks: grouped, discardable, and not to be stopped."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from apps.timers.firing.marks import MarkWriter
from apps.timers.storage import claiming
from apps.timers.storage.records import Mark
from tests.support.waiting import eventually


class Store:
    """Takes marks; fails as told, and can be held up."""

    def __init__(self) -> None:
        self.groups: list[list[Mark]] = []
        self.failures: list[Exception] = []
        self.begun = 0
        self.gate = threading.Event()
        self.gate.set()

    def mark_sent(self, marks: Sequence[Mark]) -> None:
        self.begun += 1
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        self.groups.append(list(marks))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Store:
    fake = Store()
    monkeypatch.setattr(claiming, "mark_sent", fake.mark_sent)
    return fake


@pytest.fixture
def make_writer(fake: Store) -> Iterator[Callable[[], MarkWriter]]:
    made: list[MarkWriter] = []

    def make() -> MarkWriter:
        made.append(MarkWriter())
        return made[-1]

    yield make
    fake.gate.set()
    for writer in made:
        writer.close()
        assert not writer._thread.is_alive()


def new_mark() -> Mark:
    return Mark(uuid4(), uuid4(), datetime.now(UTC))


def test_marks_that_come_during_a_write_go_together(
    fake: Store, make_writer: Callable[[], MarkWriter]
) -> None:
    # Given a write that is under way
    writer = make_writer()
    fake.gate.clear()
    marks = [new_mark() for _ in range(6)]
    writer.add(marks[0])
    eventually(lambda: fake.begun)

    # When five more marks come, two of which are discarded
    for mark in marks[1:]:
        writer.add(mark)
    writer.discard(marks[2].token)
    writer.discard(marks[4].token)
    writer.discard(uuid4())

    # Then the other three are written together
    fake.gate.set()
    eventually(lambda: len(fake.groups) == 2)
    assert fake.groups == [[marks[0]], [marks[1], marks[3], marks[5]]]


def test_marks_are_kept_while_postgres_is_away(
    fake: Store, make_writer: Callable[[], MarkWriter]
) -> None:
    fake.failures += [psycopg.OperationalError("gone")] * 2
    writer, mark = make_writer(), new_mark()
    writer.add(mark)
    eventually(lambda: fake.groups)
    assert fake.groups == [[mark]]


def test_a_mark_discarded_during_an_outage_is_not_written(
    fake: Store, make_writer: Callable[[], MarkWriter]
) -> None:
    fake.failures += [psycopg.OperationalError("gone")] * 1000
    writer, answered, open_ = make_writer(), new_mark(), new_mark()
    writer.add(answered)
    writer.add(open_)
    eventually(lambda: answered.token in writer._pending)
    writer.discard(answered.token)
    eventually(lambda: answered.token not in writer._pending)
    fake.failures.clear()
    eventually(lambda: fake.groups)
    assert open_ in fake.groups[-1]


def test_a_bad_write_does_not_end_the_thread(
    fake: Store, make_writer: Callable[[], MarkWriter],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake.failures.append(ValueError("bad"))
    writer = make_writer()
    writer.add(new_mark())
    eventually(lambda: "marks not written" in caplog.text)
    mark = new_mark()
    writer.add(mark)
    eventually(lambda: fake.groups)
    assert fake.groups == [[mark]]


def test_closing_writes_what_is_pending(
    fake: Store, make_writer: Callable[[], MarkWriter]
) -> None:
    writer = make_writer()
    fake.gate.clear()
    marks = [new_mark(), new_mark()]
    writer.add(marks[0])
    eventually(lambda: fake.begun)
    writer.add(marks[1])
    threading.Timer(0.1, fake.gate.set).start()
    writer.close()
    assert fake.groups == [[marks[0]], [marks[1]]]


def test_closing_does_not_wait_for_postgres(
    fake: Store, make_writer: Callable[[], MarkWriter]
) -> None:
    fake.failures += [psycopg.OperationalError("gone")] * 1000
    writer = make_writer()
    writer.add(new_mark())
    eventually(lambda: fake.begun)
    writer.close()
    assert not writer._thread.is_alive()

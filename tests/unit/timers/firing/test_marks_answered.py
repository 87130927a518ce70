"""A mark whose request was answered waits a little for the record."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from apps.timers.firing import marks
from apps.timers.firing.marks import MarkWriter
from apps.timers.storage import claiming
from apps.timers.storage.records import Mark
from tests.support.waiting import eventually


class Store:
    """Takes marks; the first write waits until it may go on."""

    def __init__(self) -> None:
        self.groups: list[list[Mark]] = []
        self.gate = threading.Event()
        #: Whether the first write fails.
        self.away = False

    def mark_sent(self, written: Sequence[Mark]) -> None:
        self.groups.append(list(written))
        assert self.gate.wait(10)
        if self.away:
            self.away = False
            raise psycopg.OperationalError("away")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Store:
    fake = Store()
    monkeypatch.setattr(claiming, "mark_sent", fake.mark_sent)
    return fake


@pytest.fixture
def writer(fake: Store) -> Iterator[MarkWriter]:
    """Return a writer that is busy with a first mark."""
    writer = MarkWriter()
    writer.add(new_mark())
    eventually(lambda: fake.groups)
    yield writer
    fake.gate.set()
    writer.close()


def new_mark() -> Mark:
    return Mark(uuid4(), uuid4(), datetime.now(UTC))


def answered(mark: Mark) -> Mark:
    return replace(mark, status_code=200)


def test_it_is_written_if_nothing_is_recorded(
    fake: Store, writer: MarkWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_GRACE", 0.02)
    mark = new_mark()
    writer.add(mark)
    writer.answered(answered(mark))
    fake.gate.set()
    eventually(lambda: len(fake.groups) == 2)
    assert fake.groups[1] == [answered(mark)]


def test_it_is_not_written_once_it_is_recorded(
    fake: Store, writer: MarkWriter
) -> None:
    recorded, open_ = new_mark(), new_mark()
    for mark in (recorded, open_):
        writer.add(mark)
    writer.answered(answered(recorded))
    writer.discard(recorded.token, uuid4())
    fake.gate.set()
    writer.close()
    assert fake.groups[1:] == [[open_]]


def test_it_waits_while_others_are_written(
    fake: Store, writer: MarkWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_GRACE", 60.0)
    waiting, pending = new_mark(), new_mark()
    for mark in (waiting, pending):
        writer.add(mark)
    writer.answered(answered(waiting))
    fake.gate.set()
    eventually(lambda: len(fake.groups) == 2)
    assert fake.groups[1] == [pending]


def test_closing_writes_it(
    fake: Store, writer: MarkWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_GRACE", 60.0)
    mark = new_mark()
    writer.add(mark)
    writer.answered(answered(mark))
    fake.gate.set()
    writer.close()
    assert fake.groups[1:] == [[answered(mark)]]


def test_it_is_not_replaced_by_one_that_could_not_be_written(
    fake: Store, writer: MarkWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a mark that is being written when its request is answered
    monkeypatch.setattr(marks, "_GRACE", 0.3)
    fake.away = True
    (mark,) = fake.groups[0]
    writer.answered(answered(mark))

    # When that write fails, Then the status is what is written
    fake.gate.set()
    eventually(lambda: len(fake.groups) > 1)
    assert fake.groups[1:] == [[answered(mark)]]


def test_a_mark_that_comes_after_the_end_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a process whose worker has shut down
    written: list[Mark] = []
    monkeypatch.setattr(claiming, "mark_sent", written.extend)
    marks.mark_writer()
    marks.close_mark_writer()

    # When a call that outlived it leaves
    mark = Mark(uuid4(), uuid4(), datetime.now(UTC))
    marks.mark_writer().add(mark)

    # Then its mark is written
    eventually(lambda: written == [mark])
    marks.close_mark_writer()

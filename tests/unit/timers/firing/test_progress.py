"""A worker whose threads hang is unwell, though its process lives."""

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest
from pytest_django import Settings

from apps.broker.memory import MemoryBroker
from apps.core.outages import POSTGRES, TROUBLES
from apps.monitoring import heartbeat
from apps.monitoring.heartbeat import Sign
from apps.timers.firing import claims, progress, worker
from apps.timers.firing.progress import Consuming, Progress
from apps.timers.firing.worker import WorkerLifecycle
from tests.support.waiting import eventually

THREADS = 2
HANG = "its threads hang: none ends a call, while messages wait"


class Hung:
    """A worker in this process, whose actor hangs while `gate` is clear."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.broker = MemoryBroker()
        self.lifecycle = WorkerLifecycle()
        self.broker.add_middleware(self.lifecycle)

        @dramatiq.actor(broker=self.broker)
        def work(number: int) -> None:
            self.gate.wait(30)

        self.work = work
        self.worker = dramatiq.Worker(
            self.broker, worker_threads=THREADS, worker_timeout=20
        )
        self.worker.start()

    def close(self) -> None:
        """Let it go and end it."""
        self.gate.set()
        self.worker.stop()


@pytest.fixture
def hung(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> Iterator[Hung]:
    """Return a worker that is taken for unwell after 0.4 s."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    monkeypatch.setattr(heartbeat, "STALE_AFTER", 0.4)
    monkeypatch.setattr(progress, "_BEYOND_A_CALL", 0.0)
    settings.WEBHOOK_TIMEOUT = 0.4
    for name in ("Feeder", "Notices", "end_with_parent", "close_pool"):
        monkeypatch.setattr(worker, name, lambda *_: None)
    TROUBLES.clear()
    POSTGRES.worked()
    made = Hung()
    yield made
    made.close()
    claims.stopping.clear()


def illness() -> str:
    """Return what the health command says, nothing if all is well."""
    return heartbeat.illness("worker") or ""


def test_threads_that_hang_while_messages_wait_are_told(hung: Hung) -> None:
    # Given a worker that has nothing to do
    eventually(lambda: not illness())

    # When calls hang and others wait, Then it is unwell and says why
    for number in range(2 * THREADS):
        hung.work.send(number)
    eventually(lambda: illness().endswith(HANG))

    # When they go on, Then it is well again
    hung.gate.set()
    eventually(lambda: not illness())


def test_threads_that_wait_for_postgres_say_so(hung: Hung) -> None:
    POSTGRES.failed(error="gone")
    for number in range(2 * THREADS):
        hung.work.send(number)
    eventually(lambda: "its threads wait for Postgres" in illness())
    POSTGRES.worked()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the time, in seconds."""
    made = SimpleNamespace(now=1000.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(progress, "time", made)
    return made


def test_who_is_idle_or_gets_on_is_well(clock: SimpleNamespace) -> None:
    worker: Any = SimpleNamespace(work_queue=Queue())
    threads = Progress(worker)

    # Given threads that have nothing to do, or all hang but nothing waits
    clock.now += 3600
    assert threads.sign() == Sign()

    # When messages wait, Then there is time for a call of 10 s
    worker.work_queue.put("message")
    assert threads.backlog() == 1
    clock.now += 14.9
    assert threads.sign() == Sign()

    # And again with each that begins or ends
    threads.moved()
    clock.now += 14.9
    assert threads.sign() == Sign()

    # When none does, Then they hang
    clock.now += 1
    found = threads.sign()
    assert found.age == pytest.approx(15.9)
    assert found.trouble == HANG

    # When nothing waits any more, Then they are well
    worker.work_queue.get()
    assert threads.sign() == Sign()


def test_consumers_that_look_no_more_are_told(clock: SimpleNamespace) -> None:
    broker: Any = SimpleNamespace(looked_at={})
    consuming = Consuming(broker, ["timers", "timers.overdue"])

    # Given consumers that have some time to begin
    clock.now += 14
    assert consuming.sign() == Sign()

    # When one looks and the other does not, Then that is told
    broker.looked_at["timers"] = clock.now
    clock.now += 2
    assert consuming.sign() == Sign(
        16.0,
        "it takes no messages from timers.overdue: the thread that consumes"
        " it hangs",
    )

    # When that one looks as well, Then both are well
    broker.looked_at["timers.overdue"] = clock.now
    assert consuming.sign() == Sign()


def test_a_consumer_of_memory_that_hangs_is_told(hung: Hung) -> None:
    eventually(lambda: not illness())
    with hung.broker.queues["default"]._changed:
        eventually(lambda: "it takes no messages from default" in illness())
    eventually(lambda: not illness())

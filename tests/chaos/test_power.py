"""All of it loses its power at one moment, or is restarted in order."""

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.chaos.experiment import Experiment, Make, Note
from tests.support.receiver import Receiver
from tests.support.servers import OwnPostgres, OwnRabbitMQ
from tests.support.service import Service
from tests.support.waiting import eventually

#: How long a receiver takes to answer, in seconds.
DELAY = 0.3


class Machine:
    """Everything that a power cut takes."""

    def __init__(
        self, service: Service, rabbitmq: OwnRabbitMQ, postgres: OwnPostgres
    ) -> None:
        """Take what runs, or is to run."""
        self._service = service
        self._servers = (rabbitmq, postgres)

    def start(self) -> None:
        """Start what does not run, as at boot: timers are recovered."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.start(), self._servers))
        self._service.manage("recover_timers")
        self._service.start_all(threads=64)

    def cut_power(self) -> None:
        """SIGKILL every process, Postgres's backends included."""
        pids = [
            process.pid
            for process in self._service.processes
            if process.is_running()
        ]
        servers = [pid for each in self._servers for pid in each.pids()]
        for pid in pids:
            os.killpg(pid, signal.SIGKILL)
        for pid in servers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._service.kill()
        for server in self._servers:
            server.kill()

    def shut_down(self) -> None:
        """Stop our processes, then the servers, and wait for each."""
        ours = [p for p in self._service.processes if p.is_running()]
        with ThreadPoolExecutor() as pool:
            assert set(pool.map(lambda process: process.stop(), ours)) == {0}
        for server in self._servers:
            server.stop()


@pytest.fixture
def machine(
    service: Service,
    rabbitmq: OwnRabbitMQ,
    postgres: OwnPostgres,
    receiver: Receiver,
) -> Machine:
    """Return a running machine, and receivers that take 0.3 s."""
    receiver.jitter, receiver.delay = 0.0, DELAY
    machine = Machine(service, rabbitmq, postgres)
    machine.start()
    return machine


def interrupted(
    machine: Machine, end: Callable[[], None], timers: Experiment
) -> None:
    """End the machine five times, each time amid creates and calls."""
    for _ in range(5):
        timers.set_timers(300, rate=60, seconds=range(1, 9))
        time.sleep(random.uniform(3, 4.5))
        # The calls of the last delay are still without an answer.
        eventually(lambda: under_way(timers) >= 3, every=0.005)
        timers.struck()
        end()
        machine.start()
        timers.all_set()
    timers.healed()


def under_way(timers: Experiment) -> int:
    """Return how many calls their receiver has not answered."""
    begun = time.time() - DELAY
    recent = timers.receiver.calls[-100:]
    return sum(call.arrived > begun for call in recent)


def test_five_power_cuts(
    machine: Machine, experiment: Make, note: Note
) -> None:
    timers = experiment("five power cuts")
    interrupted(machine, machine.cut_power, timers)
    row = note(timers.judge(within=60))
    assert row.lost == 0
    # At each cut some calls have left, and their marks are on the way to
    # Postgres's disk: 20 calls a second times some milliseconds.
    assert row.twice <= 3
    assert row.unknown >= 5, "what was marked is not called again"


def test_five_restarts_of_everything(
    machine: Machine, experiment: Make, note: Note
) -> None:
    timers = experiment("five graceful restarts of everything")
    interrupted(machine, machine.shut_down, timers)
    row = note(timers.judge(within=60))
    assert row.lost == row.twice == row.unknown == 0
    assert row.outcomes.keys() == {"delivered"}

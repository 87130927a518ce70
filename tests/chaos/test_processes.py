"""Our own processes are killed, stopped and paused among many timers."""

import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.experiment import Experiment, Make, Note
from tests.support.ports import free_port
from tests.support.service import Process, Service

#: What a timer of these experiments may end as: its receiver answers 200.
EXPLAINED = {"delivered", "unknown"}


@pytest.fixture
def two_of_each(service: Service) -> list[int]:
    """Run two web processes, workers and dispatchers; return the ports."""
    ports = [service.port, free_port()]
    starts: list[Callable[[], object]] = [
        lambda: service.start_all(threads=64),
        lambda: service.start_worker(threads=64),
        lambda: service.start_web(ports[1]),
        service.start_dispatcher,
    ]
    with ThreadPoolExecutor(len(starts)) as pool:
        for started in [pool.submit(start) for start in starts]:
            started.result()
    return ports


def at_random(
    service: Service, end: Callable[[Process], object], *, seconds: float
) -> None:
    """End one process after another, and start each again."""
    until = time.monotonic() + seconds
    running = [each for each in service.processes if each.is_running()]
    while time.monotonic() < until:
        time.sleep(random.uniform(1, 3))
        # The two that were started last may not work yet.
        victim = running.pop(random.randrange(len(running) - 2))
        end(victim)
        running.append(service.start_again(victim))


def killing(timers: Experiment) -> Callable[[Process], object]:
    """Return what kills a process."""

    def kill(victim: Process) -> None:
        if victim.name == "worker":
            timers.struck()
        victim.kill()

    return kill


def test_everything_is_killed_at_random(
    service: Service, two_of_each: list[int], experiment: Make, note: Note
) -> None:
    timers = experiment("web, workers, dispatchers killed", *two_of_each)
    timers.set_timers(3_000, rate=110, seconds=range(1, 9))
    at_random(service, killing(timers), seconds=25)
    timers.healed()
    row = note(timers.judge(within=90))
    assert row.lost == 0
    # Five workers are killed or so, each makes 55 calls a second, and a
    # mark takes 1 ms, or 20 on a busy machine: one timer per kill at most.
    # (Without marks it would be all that is under way, 30 per kill.)
    assert row.twice <= 6
    assert row.outcomes.keys() <= EXPLAINED


def test_everything_is_killed_at_random_at_least_once(
    service: Service, two_of_each: list[int], experiment: Make, note: Note
) -> None:
    timers = experiment("the same, at least once", *two_of_each)
    timers.set_timers(
        2_000, rate=110, seconds=range(1, 9), delivery="at_least_once"
    )
    at_random(service, killing(timers), seconds=16)
    timers.healed()
    row = note(timers.judge(within=120))
    assert row.lost == 0
    # What was under way is called again: that is what was asked for.
    assert row.outcomes.keys() == {"delivered"}


def test_everything_is_stopped_at_random(
    service: Service, two_of_each: list[int], experiment: Make, note: Note
) -> None:
    timers = experiment("web, workers, dispatchers told to stop", *two_of_each)
    timers.set_timers(3_000, rate=110, seconds=range(1, 9))
    statuses = []
    at_random(
        service, lambda victim: statuses.append(victim.stop()), seconds=25
    )
    timers.healed()
    row = note(timers.judge(within=60))
    assert set(statuses) == {0}
    assert row.lost == row.twice == row.unknown == 0
    assert row.outcomes.keys() == {"delivered"}


def test_workers_sleep_past_their_leases(
    service: Service, experiment: Make, note: Note
) -> None:
    # Given four workers among many timers
    service.start_all(threads=64)
    sleepers = [service.start_worker(threads=64) for _ in range(3)]
    timers = experiment("workers paused for 26 s")
    timers.set_timers(3_000, rate=100, seconds=range(1, 9))

    # When three of them are paused, one after the other
    for sleeper in sleepers:
        time.sleep(random.uniform(2, 3))
        timers.struck()
        sleeper.send_all(signal.SIGSTOP)
    time.sleep(26)
    left = list(timers.outcomes().values()).count("unknown")
    assert left, "no call was under way"
    for sleeper in sleepers:
        sleeper.send_all(signal.SIGCONT)
    timers.healed()

    # Then they end what they had begun, and call nobody
    assert [sleeper.stop() for sleeper in sleepers] == [0, 0, 0]
    row = note(timers.judge(within=30))
    assert row.lost == 0
    # As above: three are paused, and each makes 25 to 100 calls a second.
    assert row.twice <= 3
    # An answer that came meanwhile is found there, and is no longer
    # `unknown`; unless the pause fell between two reads: a time-out.
    assert row.outcomes.keys() <= {"delivered", "failed"}, row.outcomes
    assert row.outcomes["failed"] <= left, row.outcomes

"""Our own processes are killed, stopped and paused among many timers."""

import random
import time
from collections.abc import Callable

from tests.chaos.experiment import Experiment, Row
from tests.support.service import Service

Make = Callable[[str], Experiment]
Note = Callable[[Row], Row]


def test_workers_are_killed(
    service: Service, experiment: Make, note: Note
) -> None:
    service.start_all(threads=64)
    workers = [service.start_worker(threads=64) for _ in range(2)]
    workers.append(service.processes[1])
    timers = experiment("workers killed")
    timers.set_timers(3_000, rate=120, seconds=range(1, 9))
    for _ in range(6):
        time.sleep(random.uniform(2, 4))
        victim = random.choice(workers)
        workers.remove(victim)
        victim.kill()
        workers.append(service.start_worker(threads=64))
    timers.healed()
    row = note(timers.judge(within=90))
    assert row.lost == 0
    assert row.twice <= 6

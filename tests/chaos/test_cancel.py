"""Timers are cancelled at the moment at which they fire."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.experiment import Make, Note
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.service import Service

ROUNDS = 1_000
#: How far from its time a timer is cancelled, in seconds.
AROUND = 0.1


def test_cancel_races_with_fire(
    service: Service, receiver: Receiver, experiment: Make, note: Note
) -> None:
    # Given two web processes and two workers
    receiver.jitter = 0.1
    ports = [service.port, free_port()]
    service.start_all(threads=64)
    service.start_worker(threads=64)
    service.start_web(ports[1])
    timers = experiment("cancelled while they fire", *ports)

    # When timers are cancelled around their times, by any of the two
    def race(_: int) -> tuple[str, int]:
        time.sleep(random.uniform(0, 0.5))
        made = timers.set_timer(1)
        moment = made.answered + made.seconds + random.uniform(-AROUND, AROUND)
        time.sleep(moment - time.time())
        return made.id, timers.cancel(made.id)

    with ThreadPoolExecutor(64) as pool:
        statuses = dict(pool.map(race, range(ROUNDS)))

    # Then each was either cancelled or called, as the answer said
    row = note(timers.judge(within=30))
    calls = receiver.counts()
    said = Counter(
        (status, calls[timer]) for timer, status in statuses.items()
    )
    assert said.keys() == {(204, 0), (409, 1)}, said
    assert min(said.values()) > ROUNDS / 10, said
    assert row.lost == row.twice == row.unknown == 0
    assert row.outcomes == {
        "cancelled": said[204, 0], "delivered": said[409, 1]
    }

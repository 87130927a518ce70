"""Many timers are overdue, and recovered several times over."""

import re
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.experiment import Make, Note
from tests.support.receiver import Receiver
from tests.support.servers import OwnRabbitMQ
from tests.support.service import Service
from tests.support.timers import depth
from tests.support.waiting import eventually

BACKLOG = 20_000


def test_recoveries_amid_a_backlog(
    service: Service,
    rabbitmq: OwnRabbitMQ,
    receiver: Receiver,
    experiment: Make,
    note: Note,
) -> None:
    # Given many timers whose time passed, and workers that wait for them
    receiver.jitter = 0
    timers = experiment("recovered four times, and amid the backlog")
    timers.store_overdue(BACKLOG, seconds=10)
    for _ in range(2):
        service.start_worker(threads=64)

    def recover(_: int) -> int:
        said = service.manage("recover_timers")
        return int(re.findall(r"Queued (\d+) timers", said)[0])

    # When four recoveries run at once
    with ThreadPoolExecutor(4) as pool:
        queued = sum(pool.map(recover, range(4)))

    # And more beside a dispatcher, while the workers fire
    service.start_dispatcher()
    before = depth(rabbitmq.url, "timers.overdue")
    queued += recover(0)
    assert before > BACKLOG / 4, "there is no backlog"
    timers.healed()
    eventually(
        lambda: not depth(rabbitmq.url, "timers.overdue"), within=100
    )

    # Then each was called once, and hardly one queued again
    row = note(timers.judge(within=60))
    log = service.log()
    counts = re.findall(r" (?:overdue|lost)=(\d+)", log)
    assert BACKLOG <= queued + sum(map(int, counts)) <= BACKLOG * 1.1
    assert row.lost == row.twice == row.unknown == 0

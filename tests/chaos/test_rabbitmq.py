"""RabbitMQ is stopped, killed, emptied, starved and cut off.

Whatever becomes of it, Postgres is the truth: that costs lateness, never a
timer; and since every call needs a claim, never a second call.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.rabbitmq import NODE
from tests.chaos.experiment import Experiment, Make, Note
from tests.chaos.steady import Steady, slow_create
from tests.support.rabbitmq import Management, Proxy
from tests.support.receiver import Receiver
from tests.support.servers import OwnRabbitMQ, SecondNode
from tests.support.service import Service
from tests.support.waiting import eventually

#: All is normal so many seconds after RabbitMQ is back: it is noticed
#: within a second, and what was lost is looked for every five.
BACK_TO_NORMAL = 10.0
#: No create waits for RabbitMQ, whose shortest time-out is a second.
FAST = 0.9


@pytest.fixture
def second(rabbitmq: OwnRabbitMQ, tmp_path: Path) -> Iterator[SecondNode]:
    """Add a node to RabbitMQ's cluster."""
    directory = tmp_path / "second"
    directory.mkdir()
    with SecondNode(rabbitmq, directory) as node:
        yield node


@pytest.fixture
def proxy(rabbitmq: OwnRabbitMQ, service: Service) -> Iterator[Proxy]:
    """Put a bad line between the service and RabbitMQ."""
    proxy = Proxy(rabbitmq.url)
    service.env["RABBITMQ_URL"] = proxy.url
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def quick(receiver: Receiver) -> None:
    """Let receivers take little time, so that it is not theirs we see.

    What is overdue is called by a quarter of the threads, 16 at a time.
    """
    receiver.jitter = 0.1


def test_it_is_restarted(
    service: Service, rabbitmq: OwnRabbitMQ, experiment: Make, note: Note
) -> None:
    timers = experiment("RabbitMQ stopped for 17 s")
    _is_stopped(service, rabbitmq, timers, note)


def test_a_cluster_s_node_is_restarted(
    service: Service,
    rabbitmq: OwnRabbitMQ,
    second: SecondNode,
    management: Management,
    experiment: Make,
    note: Note,
) -> None:
    # The one that has the queues; our processes are at the other.
    service.manage("recover_timers")
    queues = management.queues().values()
    assert {queue["node"] for queue in queues} == {NODE}
    service.env["RABBITMQ_URL"] = second.url
    timers = experiment("a cluster's node stopped for 17 s, the queues on it")
    _is_stopped(service, rabbitmq, timers, note)


def _is_stopped(
    service: Service, rabbitmq: OwnRabbitMQ, timers: Experiment, note: Note
) -> None:
    service.start_all(threads=64)
    steady = Steady(service)
    # Some come due before it stops, some while it is down, some later.
    timers.set_timers(2_000, rate=200, seconds=range(2, 21))
    time.sleep(6)
    began = time.time()
    rabbitmq.stop()
    time.sleep(5)
    rabbitmq.start()
    timers.healed()
    _creates_were_fast(timers, began)
    row = note(timers.judge(within=60))
    assert (row.lost, row.twice, row.refused) == (0, 0, 0)
    # One that waited its whole time again would be late by up to 20 s.
    assert row.normal_after < BACK_TO_NORMAL
    steady.check()


def test_it_is_killed(
    service: Service, rabbitmq: OwnRabbitMQ, experiment: Make, note: Note
) -> None:
    service.start_all(threads=64)
    steady = Steady(service)
    timers = experiment("RabbitMQ killed, three times")
    timers.set_timers(2_500, rate=120, seconds=(0, 1, 2, 3))
    for _ in range(3):
        time.sleep(3)
        rabbitmq.kill()
        rabbitmq.start()
    timers.healed()
    row = note(timers.judge(within=60))
    assert (row.lost, row.twice) == (0, 0)
    assert row.normal_after < BACK_TO_NORMAL
    steady.check()


def test_its_queues_are_purged_and_deleted(
    service: Service, management: Management, experiment: Make, note: Note
) -> None:
    service.start_all(threads=64)
    steady = Steady(service)
    timers = experiment("all queues purged, twice; `timers`, a rung deleted")
    timers.set_timers(2_000, rate=120, seconds=range(1, 7))
    for _ in range(2):
        time.sleep(4)
        for queue in management.queues():
            management.purge(queue)
    time.sleep(4)
    management.delete_queue("timers")
    management.delete_queue("delay.3s")
    timers.healed()
    row = note(timers.judge(within=60))
    assert (row.lost, row.twice) == (0, 0)
    # The last that was in the rung is due three seconds later.
    assert row.normal_after < 3 + BACK_TO_NORMAL
    steady.check()


def test_its_connections_are_closed(
    service: Service, management: Management, experiment: Make, note: Note
) -> None:
    # More calls than threads: there is always work that was fetched.
    service.start_all(threads=32)
    steady = Steady(service)
    timers = experiment("all connections closed, four times")
    timers.set_timers(2_000, rate=100, seconds=(0, 1, 2))
    closed = 0
    for _ in range(4):
        # It takes seconds until the API knows a new connection.
        time.sleep(2)
        eventually(management.connections, within=15, every=0.2)
        closed += management.close_connections()
    assert closed >= 4
    timers.healed()
    row = note(timers.judge(within=60))
    assert (row.lost, row.twice) == (0, 0)
    steady.check()


def test_it_is_wiped(
    service: Service,
    rabbitmq: OwnRabbitMQ,
    management: Management,
    receiver: Receiver,
    experiment: Make,
    note: Note,
) -> None:
    receiver.jitter = 0  # ten times the timers
    service.start_all(threads=64)
    steady = Steady(service)
    timers = experiment("RabbitMQ wiped, with 10,000 near timers in it")
    timers.set_timers(10_000, rate=1_000, seconds=range(30, 45))
    timers.all_set()
    eventually(lambda: _messages(management) >= 10_000, within=20, every=0.5)
    rabbitmq.wipe()
    rabbitmq.start()
    back = time.time()
    timers.healed()
    row = note(timers.judge(within=90))
    assert (row.timers, row.lost, row.twice) == (10_000, 0, 0)
    assert _latest(receiver, back) < 10
    steady.check()


def _messages(management: Management) -> int:
    """Count the messages in all queues, as of some seconds ago."""
    queues = management.queues().values()
    return sum(int(queue.get("messages", 0)) for queue in queues)


def _latest(receiver: Receiver, back: float) -> float:
    """Return the most that a call was late, or RabbitMQ was back before.

    Of the two the smaller: nothing was to be had before it was back.
    """
    latest = max(
        min(call.late, call.arrived - back) for call in receiver.calls
    )
    print(f"late by {latest:.1f} s at most, counted from its return")
    return latest


def test_it_has_a_memory_alarm(
    service: Service, rabbitmq: OwnRabbitMQ, experiment: Make, note: Note
) -> None:
    service.start_all(threads=64)
    steady = Steady(service)
    timers = experiment("RabbitMQ under a memory alarm for 8 s")
    timers.set_timers(1_200, rate=80, seconds=range(1, 8))
    time.sleep(3)
    began = time.time()
    rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
    try:
        time.sleep(8)
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    timers.healed()
    _creates_were_fast(timers, began)
    row = note(timers.judge(within=60))
    assert (row.lost, row.twice, row.refused) == (0, 0, 0)
    assert row.normal_after < BACK_TO_NORMAL
    steady.check()


def test_it_is_cut_off(
    service: Service, proxy: Proxy, experiment: Make, note: Note
) -> None:
    service.start_all(threads=64)
    steady = Steady(service)
    timers = experiment("RabbitMQ black-holed, twice for 10 s")
    timers.set_timers(2_000, rate=70, seconds=range(1, 10))
    for is_lost in (False, True):
        time.sleep(4)
        began = time.time()
        proxy.black_hole()
        time.sleep(4)
        if is_lost:
            proxy.lose()
        time.sleep(6)
        proxy.restore()
        _creates_were_fast(timers, began)
    timers.healed()
    row = note(timers.judge(within=90))
    assert (row.lost, row.twice, row.refused) == (0, 0, 0)
    assert row.normal_after < BACK_TO_NORMAL
    steady.check()


def _creates_were_fast(timers: Experiment, began: float) -> None:
    """Assert it of those since the fault began; print it for comparison."""
    before = slow_create(timers, 0, began)
    since = slow_create(timers, began, time.time())
    print(
        f"{timers.fault}: POST takes {since * 1000:.0f} ms (p99),"
        f" {before * 1000:.0f} ms before"
    )
    assert since < FAST

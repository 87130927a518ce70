"""Whether the simulated pipeline keeps to what is known without it."""

from dataclasses import replace

import pytest

from tests.load.bench.measures import quantile
from tests.load.scaling.simulation import (
    Costs,
    Layout,
    burst,
    creates,
    steady,
)

COSTS = Costs(
    web=0.4, worker=1.0, rabbitmq=0.3, queue=0.1, flush=0.2, row=0.01,
    fsync=1.0,
)
AMPLE = Layout(web=4, worker=4, postgres=4, rabbitmq=4)


def test_it_is_late_by_the_work_before_the_call_when_nothing_queues() -> None:
    # Given a hundredth of what the processes could do
    done = steady(AMPLE, COSTS, rate=40, seconds=5)
    # Then a call waits for a quarter of the worker's millisecond, and an
    # answer for the request, the write and the disk.
    assert quantile(done.late, 0.0) > 0
    assert sum(done.late) / len(done.late) == pytest.approx(0.25, rel=0.1)
    mean = sum(done.answers) / len(done.answers)
    assert mean == pytest.approx(0.4 + 0.2 + 0.01 + 1.0, rel=0.1)
    assert done.busy["worker"] == pytest.approx(40 * 0.001 / 4, rel=0.2)
    assert done == steady(AMPLE, COSTS, rate=40, seconds=5)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_part_makes_what_its_processes_can(processes: int) -> None:
    layout = replace(AMPLE, web=processes, worker=processes)
    rate = creates(layout, COSTS, 2_000)
    assert rate == pytest.approx(processes * 1000 / COSTS.web, rel=0.15)
    # 2,000 calls of a millisecond each, which begin within a second
    assert burst(layout, COSTS, 2_000).seconds == pytest.approx(
        2 / processes, rel=0.15
    )


def test_writes_that_wait_go_together() -> None:
    costs = replace(COSTS, web=0.005)
    # Two groups, half of its 64 threads each, take turns at the disk.
    each = costs.flush + 32 * costs.row + costs.fsync
    rate = creates(replace(AMPLE, web=1), costs, 20_000, callers=128)
    assert rate == pytest.approx(32_000 / each, rel=0.25)


def test_a_machine_has_no_more_than_its_cores() -> None:
    one, two = (Layout(4, 4, shared=cores) for cores in (1, 2))
    each = COSTS.worker + 2 * COSTS.row + COSTS.rabbitmq * 2 / 3
    assert burst(one, COSTS, 2_000).rate < 1000 / each
    assert burst(two, COSTS, 2_000).rate > 1.5 * burst(one, COSTS, 2_000).rate


@pytest.mark.parametrize("part", ["web", "worker", "postgres", "rabbitmq"])
def test_it_falls_behind_when_one_part_is_too_small(part: str) -> None:
    costs = replace(COSTS, row=0.5)
    assert steady(AMPLE, costs, rate=1_500, seconds=2).keeps_up
    few = replace(AMPLE, **{part: 1})
    costs = replace(costs, web=0.9, rabbitmq=0.9)
    assert not steady(few, costs, rate=1_500, seconds=2).keeps_up

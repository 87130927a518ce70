"""How late herds are, by what flows."""

import pytest

from apps.dashboard.forecast import (
    OVERHEAD,
    Crowd,
    Workers,
    lateness,
    most_at_once,
)

WORKERS = Workers(2, 128)


def late(*crowds: tuple[float, str, int, float]) -> list[float]:
    return lateness([Crowd(*each) for each in crowds], WORKERS)


@pytest.mark.parametrize(
    ("seconds", "at_once"), [(0.02, 104), (0.2, 92), (1.0, 50), (9.0, 50)]
)
def test_a_host_alone_has_its_share(seconds: float, at_once: float) -> None:
    assert most_at_once(WORKERS, seconds) == at_once
    count = 6000
    found = late((0, "a", count, seconds))
    by_slots = count * (seconds + OVERHEAD) / at_once
    assert found == [pytest.approx(max(by_slots, count / 1800))]


def test_hosts_share_what_there_is() -> None:
    alone = late((0, "a", 1000, 0.5))[0]
    both = late((0, "a", 1000, 0.5), (0, "b", 1000, 0.5))
    assert both == [pytest.approx(alone * 2 * 92 / 104)] * 2
    small, large = late((0, "a", 100, 0.5), (0, "b", 1900, 0.5))
    assert small < large < both[0] * 1.15
    slow = late((0, "a", 1000, 2.0), (0, "b", 1000, 3.0))
    assert slow[1] > late((0, "b", 1000, 3.0))[0] * 1.5
    assert late((0, "a", 1000, 2.0), (0, "b", 100, 0.01))[1] < 2


def test_herds_of_one_host_mix() -> None:
    first, second = late((0, "a", 1000, 1.5), (10, "a", 1000, 1.5))
    alone = 1000 * 1.505 / 50
    assert first == pytest.approx(2 * alone)
    assert second == pytest.approx(2 * alone - 10)
    apart = late((5000, "a", 1000, 1.5), (10, "a", 1000, 1.5))
    assert apart == [pytest.approx(alone)] * 2


def test_no_herd_is_not_late() -> None:
    assert late() == []
    assert late((0, "a", 0, 0.0)) == [pytest.approx(0, abs=1e-6)]

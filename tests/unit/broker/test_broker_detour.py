"""The ways of a ladder that lacks rungs."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from apps.broker import ladder

RUNGS = ladder.rungs()
NAMES = frozenset(rung.queue for rung in RUNGS)
DELAYS = st.integers(1, ladder.HORIZON_MS // 10).map(lambda n: 10 * n)


def length(route: ladder.Route) -> int:
    return sum(rung.ttl_ms for rung in route.rungs)


def rounds(delay: int, missing: frozenset[str]) -> tuple[int, int]:
    """Return how long a message takes in all, and in how many rounds.

    The worker sends it on its way again for as long as it is early.
    """
    left, count = delay, 0
    while left > 0:
        route = ladder.detour(ladder.route(left, "timers"), missing)
        assert route is not None
        assert length(route) > 0
        left -= length(route)
        count += 1
    return delay - left, count


@given(DELAYS, st.frozensets(st.sampled_from(sorted(NAMES))))
@example(60_000, frozenset({"delay.60s"}))
@example(10, NAMES - {"delay.1s"})
def test_a_detour_uses_the_longest_rungs_that_fit(
    delay: int, missing: frozenset[str]
) -> None:
    direct = ladder.route(delay, "timers")
    route = ladder.detour(direct, missing)
    if route is None:
        assert missing == NAMES
        return
    assert not {rung.queue for rung in route.rungs} & missing
    assert ladder.route(length(route), "timers") == route
    present = [rung for rung in RUNGS if rung.queue not in missing]
    fitting = [r.ttl_ms for r in present if r.ttl_ms <= delay]
    if fitting:
        assert max(fitting) <= length(route) <= delay
    else:
        assert length(route) == min(rung.ttl_ms for rung in present)


@given(DELAYS)
def test_without_gaps_a_detour_is_the_direct_way(delay: int) -> None:
    direct = ladder.route(delay, "timers")
    assert ladder.detour(direct, frozenset()) == direct


@given(DELAYS, st.integers(13, len(RUNGS)))
@example(59_990, 13)
def test_thirteen_rungs_make_up_any_delay(delay: int, allowed: int) -> None:
    missing = frozenset(rung.queue for rung in RUNGS[allowed:])
    took, count = rounds(delay, missing)
    assert took == delay
    assert count <= 10


@given(DELAYS, st.integers(1, 12))
def test_with_fewer_rungs_it_is_late_by_less_than_the_shortest(
    delay: int, allowed: int
) -> None:
    missing = frozenset(rung.queue for rung in RUNGS[allowed:])
    took, count = rounds(delay, missing)
    assert delay <= took < delay + RUNGS[:allowed][-1].ttl_ms * 2
    assert count <= 61

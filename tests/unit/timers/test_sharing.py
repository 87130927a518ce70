"""Which accounts' overdue timers go before large backlogs."""

import pytest

from apps.timers.scheduling.sharing import MOST_FOUND, chosen


@pytest.mark.parametrize(
    ("backlogs", "accounts"),
    [
        ({}, []),
        ({1: 100_000}, []),
        ({2: 10, 1: 100_000}, [2]),
        ({2: 2_000, 3: 3_000, 1: 100_000}, [2, 3]),
        (dict.fromkeys(range(MOST_FOUND + 1), 1), list(range(MOST_FOUND))),
    ],
    ids=["none", "only one", "small", "as many as go", "many"],
)
def test_the_smallest_backlogs_are_next(
    backlogs: dict[int, int], accounts: list[int]
) -> None:
    assert chosen(backlogs, 0) == (accounts, None)


@pytest.mark.parametrize(
    ("last", "turn"), [(0, 3), (3, 4), (4, 7), (7, 3), (5, 7), (9, 3)]
)
def test_large_backlogs_take_turns(last: int, turn: int) -> None:
    backlogs = {2: 10, 7: 50_000, 3: 60_000, 4: 100_000}
    assert chosen(backlogs, last) == ([2], turn)

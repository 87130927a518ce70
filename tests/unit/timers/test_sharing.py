"""Which accounts' overdue timers go before large backlogs."""

import pytest

from apps.timers.scheduling.sharing import MOST_FOUND, chosen


@pytest.mark.parametrize(
    ("backlogs", "accounts"),
    [
        ({}, []),
        ({1: 100_000}, []),
        ({2: 10, 1: 100_000}, [2]),
        ({2: 600, 3: 400, 4: 1000, 1: 100_000}, [2, 3]),
        ({2: 600, 3: 601, 1: 100_000}, [2]),
        ({2: 5_000, 1: 100_000}, [2]),
        (dict.fromkeys(range(MOST_FOUND + 1), 1), list(range(MOST_FOUND))),
    ],
    ids=["none", "only one", "small", "as many as go", "the next is too large",
         "none is small", "many"],
)
def test_the_smallest_backlogs_are_next(
    backlogs: dict[int, int], accounts: list[int]
) -> None:
    assert chosen(backlogs) == accounts

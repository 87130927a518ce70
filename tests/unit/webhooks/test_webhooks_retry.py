"""How long to wait before a receiver is tried again."""

import random

import pytest

from apps.webhooks.retry import backoff


@pytest.mark.parametrize(
    ("failures", "most"),
    [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (1900, 60)],
)
def test_it_doubles_up_to_a_minute_less_up_to_half(
    failures: int, most: float
) -> None:
    # A day of failures, the longest that may be asked for, has 1,900.
    random.seed(failures)
    waits = [backoff(failures) for _ in range(1000)]
    assert most / 2 <= min(waits) < most * 0.52
    assert most * 0.98 < max(waits) <= most
    # Those who failed together come back spread evenly.
    below = sum(wait < most * 0.75 for wait in waits)
    assert 400 < below < 600

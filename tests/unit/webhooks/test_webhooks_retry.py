"""How long to wait before a receiver is tried again."""

import random

import pytest

from apps.webhooks.retry import backoff


@pytest.mark.parametrize(
    ("failures", "most"),
    [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (1000, 60)],
)
def test_it_doubles_up_to_a_minute_less_up_to_half(
    failures: int, most: float
) -> None:
    random.seed(failures)
    waits = [backoff(failures) for _ in range(1000)]
    assert most / 2 <= min(waits) < most * 0.52
    assert most * 0.98 < max(waits) <= most
    # Those who failed together come back spread evenly.
    below = sum(wait < most * 0.75 for wait in waits)
    assert 400 < below < 600


@pytest.mark.xfail(
    raises=OverflowError, strict=True, reason="2.0 ** 1024 is no float"
)
def test_a_day_of_failures_has_its_backoff() -> None:
    """WEBHOOK_CONNECT_RETRY_SECONDS may be a day: some 1,900 tries."""
    assert 30 <= backoff(1_900) <= 60

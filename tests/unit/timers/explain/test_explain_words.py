"""How moments, durations and numbers are said."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.timers.explain.words import later, moment, often, span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0 ms"), (0.0124, "12 ms"), (-3, "3 s"), (59.6, "1 min"),
        (61, "1 min 1 s"), (3600, "1 h"), (3601, "1 h"), (86_400, "1 day"),
        (200_000, "2 days 7 h"), (86_460, "1 day"),
    ],
)
def test_how_long_something_lasts(seconds: float, said: str) -> None:
    assert span(timedelta(seconds=seconds)) == said


def test_words_for_what_no_row_should_hold() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    assert later(last, timedelta(days=1)).year == 9999
    assert later(last.replace(year=1), -timedelta(days=900)).year == 1
    assert moment(last) == "9999-12-31T23:59:59.999Z"
    assert [often(n) for n in (1, 2, 3_000)] == [
        "once", "twice", "3,000 times"
    ]

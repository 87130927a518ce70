"""Two clocks side by side, and the clock of a lease."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from apps.timers.firing.claims import lease_clock
from apps.timers.storage.records import ClockReading

moments = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001  (bounds are naive)
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(moments, st.floats(0, 1e7), moments)
def test_a_moment_survives_the_way_there_and_back(
    database: datetime, monotonic: float, moment: datetime
) -> None:
    reading = ClockReading(database, monotonic)
    there_and_back = reading.to_database(reading.to_monotonic(moment))
    assert abs(there_and_back - moment) < timedelta(milliseconds=0.01)


def test_the_clocks_run_at_the_same_pace() -> None:
    reading = ClockReading(datetime(2030, 1, 1, tzinfo=UTC), 100.0)
    later = datetime(2030, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert reading.to_monotonic(later) == 101.5
    assert reading.to_database(101.5) == later


def test_the_lease_clock_advances() -> None:
    first = lease_clock()
    assert 0 <= lease_clock() - first < 1

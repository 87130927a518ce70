"""Local times around changes of the clocks, in every time zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from io import BytesIO
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.timers.moments import parse

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
NAMES = sorted(
    set(files("tzdata").joinpath("zones").read_text("ascii").split())
    - {"Factory"}
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@cache
def zone_of(name: str) -> ZoneInfo:
    return ZoneInfo.from_file(BytesIO(data(name)), name)


@cache
def data(name: str) -> bytes:
    return files("tzdata").joinpath("zoneinfo", name).read_bytes()


def shown(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


@settings(deadline=None)
@given(
    st.datetimes().filter(lambda local: 1 < local.year < 9999),
    st.sampled_from(NAMES),
)
def test_the_moment_is_the_first_with_this_local_time_or_a_later_one(
    local: datetime, name: str
) -> None:
    zone = zone_of(name)

    moment = parse(local.isoformat(), name)

    assert shown(moment, zone) >= local
    if shown(moment, zone) > local:
        assert shown(moment - SECOND, zone) < local
    # No change has been larger than a day.
    assert all(
        shown(moment - timedelta(minutes=minutes), zone) != local
        for minutes in range(15, 25 * 60, 15)
    )


# Each is of the past, so that no new rule changes it.
@pytest.mark.parametrize(
    ("zone", "local", "moment"),
    [
        # An hour: before, in and after the gap, then the fold.
        ("Europe/Berlin", "2025-03-30T01:59:59.9", "2025-03-30 00:59:59.9"),
        ("Europe/Berlin", "2025-03-30T02:00:00", "2025-03-30 01:00:00"),
        ("Europe/Berlin", "2025-03-30T02:59:59.9", "2025-03-30 01:00:00"),
        ("Europe/Berlin", "2025-03-30T03:00:00", "2025-03-30 01:00:00"),
        ("Europe/Berlin", "2025-03-30T01:59:60", "2025-03-30 01:00:00"),
        ("Europe/Berlin", "2025-10-26T02:00:00", "2025-10-26 00:00:00"),
        ("Europe/Berlin", "2025-10-26T02:59:59.9", "2025-10-26 00:59:59.9"),
        ("Europe/Berlin", "2025-10-26T03:00:00", "2025-10-26 02:00:00"),
        # The example of RFC 5545, which says 07:30.
        ("America/New_York", "2007-03-11T02:30:00", "2007-03-11 07:00:00"),
        ("America/New_York", "2007-11-04T01:30:00", "2007-11-04 05:30:00"),
        # Half an hour.
        ("Australia/Lord_Howe", "2025-10-05T02:15:00", "2025-10-04 15:30:00"),
        ("Australia/Lord_Howe", "2025-04-06T01:45:00", "2025-04-05 14:45:00"),
        # Two hours.
        ("Antarctica/Troll", "2025-03-30T02:15:00", "2025-03-30 01:00:00"),
        ("Antarctica/Troll", "2025-10-26T01:30:00", "2025-10-25 23:30:00"),
        # Ramadan turns Morocco's clocks back, and then forward.
        ("Africa/Casablanca", "2024-03-10T02:30:00", "2024-03-10 01:30:00"),
        ("Africa/Casablanca", "2024-04-14T02:30:00", "2024-04-14 02:00:00"),
        # A whole day that never was, and one that came twice.
        ("Pacific/Apia", "2011-12-30T00:00:00", "2011-12-30 10:00:00"),
        ("Pacific/Apia", "2011-12-30T23:59:59", "2011-12-30 10:00:00"),
        ("Pacific/Apia", "2011-12-31T00:00:00", "2011-12-30 10:00:00"),
        ("Pacific/Kwajalein", "1993-08-21T15:00:00", "1993-08-21 12:00:00"),
        ("America/Juneau", "1867-10-19T00:00:00", "1867-10-18 08:57:41"),
        ("UTC", "2026-12-24T18:00:00", "2026-12-24 18:00:00"),
        ("Etc/GMT+5", "2026-12-24T18:00:00", "2026-12-24 23:00:00"),
    ],
)
def test_a_change_of_the_clocks(zone: str, local: str, moment: str) -> None:
    assert parse(local, zone) == utc(moment)


def changes(zone: ZoneInfo) -> Iterator[datetime]:
    """Find when a zone's offset changes in 2026 to 2030."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    while day.year < 2031:
        if offset(day, zone) != offset(day + DAY, zone):
            yield first_after(day, zone)
        day += DAY


def offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found


def first_after(day: datetime, zone: ZoneInfo) -> datetime:
    low, high = 0, 86_400
    while high - low > 1:
        middle = (low + high) // 2
        if offset(day + middle * SECOND, zone) == offset(day, zone):
            low = middle
        else:
            high = middle
    return day + high * SECOND


def expected(
    change: datetime, before: timedelta, after: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Give local times around a change of the offset, each with its moment.

    The gap, or what comes twice, lies between what the clock shows with the
    offset before and with the one after.
    """
    bare = change.replace(tzinfo=None)
    first, last = sorted([bare + before, bare + after])
    yield first - SECOND, change - SECOND - max(before - after, 0 * SECOND)
    for local in (first, first + (last - first) / 2, last - SECOND):
        if after > before:
            yield local, change
        else:
            yield local, (local - before).replace(tzinfo=UTC)
    yield last, (last - after).replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def all_changes() -> dict[str, list[datetime]]:
    """Return the changes of each zone; many are the same under two names."""

    @cache
    def of(data: bytes) -> list[datetime]:
        return list(changes(zone_of(names[data])))

    names = {data(name): name for name in NAMES}
    return {name: of(data(name)) for name in NAMES}


def test_every_change_of_every_zone_in_2026_to_2030(
    all_changes: dict[str, list[datetime]]
) -> None:
    wrong = [
        (name, local, moment)
        for name, found in all_changes.items()
        for change in found
        for local, moment in expected(
            change, offset(change - SECOND, zone_of(name)),
            offset(change, zone_of(name)),
        )
        if parse(local.isoformat(), name) != moment
    ]

    assert wrong == []
    assert len(all_changes["Europe/Berlin"]) == 10
    assert sum(map(len, all_changes.values())) > 1000

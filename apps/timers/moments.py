"""When a timer fires: moments as callers write them, and windows.

Decision 25 says why the rules are these.
"""

import os
import re
import secrets
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from itertools import count
from zoneinfo import ZoneInfo

_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]"
    r"([0-9]{2}):([0-9]{2}):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
_SECOND = timedelta(seconds=1)

# The golden ratio's part of 2**64. It is odd.
_STEP = 0x9E3779B97F4A7C15
_CIRCLE = 2**64


class InvalidMoment(ValueError):
    """It is no moment; the text tells its user how to mend it."""


class UnknownZone(InvalidMoment):
    """The name of the time zone is what is wrong."""


def parse(text: str, timezone: str | None) -> datetime:
    """Read a date and a time of RFC 3339, and return it in UTC.

    It has either an offset or a time zone, the name of one in the tz
    database. A local time that a clock change skips is the first moment after
    the gap. One that comes twice is the earlier one. Second 60 is the start of
    the next second. What is finer than a microsecond is cut off.

    Raises UnknownZone for a wrong time zone, and InvalidMoment for any other
    fault. Both say what must be.
    """
    parts = _DATE_TIME.fullmatch(text)
    if not parts:
        raise InvalidMoment(
            "must be a date, a time with seconds, and an offset, such as"
            ' "2026-12-24T18:00:00+01:00"; without the offset if timezone is'
            " given"
        )
    *numbers, fraction, offset = parts.groups()
    if offset and timezone is not None:
        raise InvalidMoment(
            "must have no offset if timezone is given: leave out one of the"
            " two"
        )
    if not offset and timezone is None:
        raise InvalidMoment(
            "must end with an offset, such as Z or +01:00, or come with"
            ' timezone, such as "Europe/Berlin"'
        )
    try:
        local = _local_time([int(number) for number in numbers], fraction)
        if timezone is None:
            return (local - _offset(offset)).replace(tzinfo=UTC)
        return _first_moment(local, _zone(timezone))
    except OverflowError:
        raise InvalidMoment(
            "must be in the years 0001 to 9999, also in UTC"
        ) from None


def _local_time(numbers: list[int], fraction: str | None) -> datetime:
    """Make it of year to second, and the digits after the second."""
    year, month, day, hour, minute, second = numbers
    microsecond = int((fraction or "")[:6].ljust(6, "0"))
    if leap := second == 60:
        second, microsecond = 59, 0
    try:
        local = datetime(  # noqa: DTZ001 - its zone is not known yet
            year, month, day, hour, minute, second, microsecond
        )
    except ValueError:
        raise InvalidMoment(
            "must be a day that the calendar has, of the years 0001 to 9999,"
            " and a time from 00:00:00 to 23:59:60"
        ) from None
    return local + _SECOND if leap else local


def _offset(text: str) -> timedelta:
    if text in ("Z", "z"):
        return timedelta(0)
    size = timedelta(hours=int(text[1:3]), minutes=int(text[4:]))
    return -size if text[0] == "-" else size


def _first_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """Return when the zone's clocks first show a local time or a later one."""
    # Without fold, Python takes the offset before a change of the clocks.
    moment = local.replace(tzinfo=zone).astimezone(UTC)
    if _clock(moment, zone) == local:
        return moment
    # The time is skipped, so the offset after the change leads to before it.
    before = local.replace(tzinfo=zone, microsecond=0, fold=1).astimezone(UTC)
    wait = bisect_left(
        range((moment - before) // _SECOND),
        True,
        key=lambda seconds: _clock(before + seconds * _SECOND, zone) > local,
    )
    return before + wait * _SECOND


def _clock(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


@cache
def _zone(name: str) -> ZoneInfo:
    # The package's data comes first, not the system's: every machine that
    # runs a version of the service has the same rules. Only names that are
    # listed become paths.
    if name not in _zone_names():
        raise UnknownZone(
            "must be the name of a time zone in the tz database, spelled as"
            ' there, such as "Europe/Berlin" or "UTC"'
        )
    path = files("tzdata").joinpath("zoneinfo", *name.split("/"))
    with path.open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def _zone_names() -> frozenset[str]:
    names = files("tzdata").joinpath("zones").read_text("ascii").split()
    # Machines whose time zone was never set have this one.
    return frozenset(names) - {"Factory"}


def spread(window: int, start: datetime) -> timedelta:
    """Return how long after the start of a window its next timer fires.

    window  its length in seconds, 1 or more
    start   when it begins. Timers that share start and window are spread
            evenly; those that do not share them have nothing to do with each
            other.

    It is from 0 to the whole window, in microseconds.
    """
    # Why it is even: each step goes on by the golden ratio's part of a circle,
    # and so lands in one of the largest holes that the steps before it have
    # left. That is true from any place on, so each process starts at a
    # random one, and evenly filled circles on top of each other are even.
    place = next(_turns(window, start)) * _STEP % _CIRCLE
    return timedelta(microseconds=place * (window * 1_000_000 + 1) // _CIRCLE)


# One that is forgotten starts again at a random place, which is never worse
# than a random number for each timer.
@lru_cache(maxsize=4096)
def _turns(window: int, start: datetime) -> Iterator[int]:
    return count(secrets.randbits(64))


# Else forked processes would go the same way.
os.register_at_fork(after_in_child=_turns.cache_clear)

"""Moments that callers write: their text, offsets and time zones."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.timers.moments import InvalidMoment, UnknownZone, parse

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(
    set(files("tzdata").joinpath("zones").read_text("ascii").split())
    - {"Factory"}
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-24T18:00:00Z", "2026-12-24 18:00:00"),
        ("2026-12-24t18:00:00z", "2026-12-24 18:00:00"),
        ("2026-12-24 18:00:00+01:00", "2026-12-24 17:00:00"),
        ("2026-12-24T18:00:00-05:30", "2026-12-24 23:30:00"),
        ("2026-12-24T18:00:00-00:00", "2026-12-24 18:00:00"),
        ("2026-12-24T18:00:00+23:59", "2026-12-23 18:01:00"),
        ("2026-12-24T18:00:00.5Z", "2026-12-24 18:00:00.500000"),
        ("2026-12-24T18:00:00.1234569Z", "2026-12-24 18:00:00.123456"),
        (f"2026-12-24T18:00:00.{'9' * 10**6}Z", "2026-12-24 18:00:00.999999"),
        ("2024-02-29T23:59:59Z", "2024-02-29 23:59:59"),
        ("2016-12-31T23:59:60Z", "2017-01-01 00:00:00"),
        ("2017-01-01T00:59:60.75+01:00", "2017-01-01 00:00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01 00:00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"),
    ],
)
def test_an_offset_gives_the_moment(text: str, moment: str) -> None:
    found = parse(text, None)

    assert found == utc(moment)
    assert found.tzinfo is UTC


SYNTAX = "must be a date, a time with seconds, and an offset, such as"
CALENDAR = "must be a day that the calendar has"
YEARS = "must be in the years 0001 to 9999, also in UTC"
ZONE = "must be the name of a time zone in the tz database"


@pytest.mark.parametrize(
    ("text", "zone", "says"),
    [
        ("2026-12-24T18:00:00", None, "must end with an offset, such as Z"),
        ("2026-12-24T18:00:00Z", "UTC", "must have no offset if timezone"),
        ("2026-12-24T18:00:00Z", "", "must have no offset if timezone"),
        ("", None, SYNTAX),
        ("", "UTC", SYNTAX),
        ("2026-12-24", "UTC", SYNTAX),
        ("2026-12-24T18:00Z", None, SYNTAX),
        ("2026-12-24T18:00:00.Z", None, SYNTAX),
        ("2026-12-24T18:00:00,5Z", None, SYNTAX),
        ("2026-12-24T18:00:00 Z", None, SYNTAX),
        ("2026-12-24  18:00:00Z", None, SYNTAX),
        ("2026-12-24T18:00:00Z\n", None, SYNTAX),
        ("2026-12-24T18:00:00+01", None, SYNTAX),
        ("2026-12-24T18:00:00+0100", None, SYNTAX),
        ("2026-12-24T18:00:00+24:00", None, SYNTAX),
        ("2026-12-24T18:00:00+01:60", None, SYNTAX),
        ("2026-12-24T18:00:00\N{MINUS SIGN}01:00", None, SYNTAX),
        ("2026-12-24T18:00:00+01:00[Europe/Berlin]", None, SYNTAX),
        ("20261224T180000Z", None, SYNTAX),
        ("2026-W52-4T18:00:00Z", None, SYNTAX),
        ("+2026-12-24T18:00:00Z", None, SYNTAX),
        ("12026-12-24T18:00:00Z", None, SYNTAX),
        ("２０２６-12-24T18:00:00Z", None, SYNTAX),
        ("2026-12-24T18:00:61Z", None, SYNTAX),
        ("1766599200", None, SYNTAX),
        ("2026-12-24T18:00:00Z\0", None, SYNTAX),
        ("\ud800", None, SYNTAX),
        ("9" * 10**6, None, SYNTAX),
        ("2026-02-29T00:00:00Z", None, CALENDAR),
        ("2026-13-01T00:00:00Z", None, CALENDAR),
        ("2026-00-01T00:00:00Z", None, CALENDAR),
        ("2026-12-24T24:00:00Z", None, CALENDAR),
        ("2026-12-24T18:60:00Z", None, CALENDAR),
        ("0000-12-24T18:00:00Z", None, CALENDAR),
        ("0001-01-01T00:00:00+00:01", None, YEARS),
        ("9999-12-31T23:59:59-00:01", None, YEARS),
        ("9999-12-31T23:59:60Z", None, YEARS),
        ("0001-01-01T00:00:00", "Asia/Tokyo", YEARS),
        ("9999-12-31T23:59:59", "America/New_York", YEARS),
    ],
)
def test_what_is_no_moment_is_refused(
    text: str, zone: str | None, says: str
) -> None:
    with pytest.raises(InvalidMoment) as refused:
        parse(text, zone)

    assert str(refused.value).startswith(says)


STRANGE_NAMES = [
    "", " ", ".", "..", "/", "Europe", "Europe/", "Europe/Paris2", "Berlin",
    "europe/berlin", "EUROPE/BERLIN", " Europe/Berlin", "Europe/Berlin\n",
    "Europe//Berlin", "Europe/./Berlin", "Europe\\Berlin", "./Europe/Berlin",
    "/usr/share/zoneinfo/Europe/Berlin", "/etc/localtime", "/etc/passwd",
    "../zones", "Europe/../Europe/Berlin", "../../../../../etc/passwd",
    "localtime", "posixrules", "posix/Europe/Berlin", "right/Europe/Berlin",
    "Factory", "zone.tab", "tzdata.zi", "__init__.py", "Europe/__init__.py",
    "CET-1CEST", "UTC+1", "+01:00", "Europe/Berlin\0", "\0", "\ud800",
    "Zürich", "x" * 10**6, "../" * 10**5, "None",
]


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=lambda name: name[:20])
def test_only_names_of_the_tz_database_are_zones(name: str) -> None:
    with pytest.raises(UnknownZone, match=ZONE):
        parse("2026-12-24T18:00:00", name)


@settings(deadline=None)
@given(
    st.one_of(
        st.text(st.characters(exclude_categories=[])),
        st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-9:.]{8,12}Z?"),
    ),
    st.one_of(
        st.none(), st.text(st.characters(exclude_categories=[])),
        st.sampled_from(NAMES),
    ),
)
def test_any_text_is_a_moment_or_refused(text: str, zone: str | None) -> None:
    with suppress(InvalidMoment):
        assert parse(text, zone).tzinfo is UTC


@settings(deadline=None)
@given(
    moment=st.datetimes(timezones=st.just(UTC)).filter(
        lambda moment: 1 < moment.year < 9999
    ),
    minutes=st.integers(-24 * 60 + 1, 24 * 60 - 1),
    between=st.sampled_from("Tt "),
    digits=st.text("0123456789", max_size=30),
)
def test_a_moment_written_with_any_offset_is_that_moment(
    moment: datetime, minutes: int, between: str, digits: str
) -> None:
    there = moment.astimezone(timezone(timedelta(minutes=minutes)))
    text = there.isoformat(between, "microseconds")

    assert parse(f"{text[:-6]}{digits}{text[-6:]}", None) == moment


Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script in a Python of its own, and return what it prints."""

    def result(script: str, zone_path: str = "") -> str:
        return subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, check=True, text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONTZPATH": zone_path},
        ).stdout

    return result


SUMMER = """
import sys
from apps.timers.moments import parse
print(parse("2025-07-01T12:00:00", "Europe/Berlin"), "django" in sys.modules)
"""


def test_the_zones_are_those_of_the_package(run: Run, tmp_path: Path) -> None:
    """Whether the system has none, or one that differs."""
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Berlin").write_bytes(
        files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    )

    printed = {run(SUMMER), run(SUMMER, str(tmp_path))}

    assert printed == {"2025-07-01 10:00:00+00:00 False\n"}


OPENED = """
import sys
from apps.timers.moments import InvalidMoment, parse
parse("2025-07-01T12:00:00", "UTC")
sys.addaudithook(
    lambda event, args: print(event, args) if event in watched else None
)
watched = ["open", "os.listdir", "os.scandir"]
for name in NAMES:
    try:
        parse("2025-07-01T12:00:00", name)
    except InvalidMoment:
        pass
"""


def test_no_file_is_opened_for_a_strange_name(run: Run) -> None:
    names = [name[:1000] for name in STRANGE_NAMES]

    assert run(OPENED.replace("NAMES", ascii(names))) == ""
    assert run(OPENED.replace("NAMES", "['Europe/Berlin']")) != ""

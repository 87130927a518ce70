"""What lies ahead of an account: how many timers are due, and when.

An account with few waiting timers is read whole. Of another one, the pages of
a sample are read, and the rows that an index has next. So what is read is
bounded, however many timers there are (docs/decisions/0039-ahead.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.core.database import Connection
from apps.core.rows import Row, named
from apps.timers.storage.finding import MANY, NOT_LEASED
from apps.timers.storage.reading import STATUS

#: An account with fewer waiting timers is read whole.
FEW = MANY
#: How many timers that come next, of all accounts, are counted.
NEXT = 5_000
#: Pages of the table that are read as a sample, about.
PAGES = 800
#: Seconds that are shown, the fullest ones.
HERDS = 10
#: Timers of one second are counted up to this number, and estimated beyond it.
MOST = 3_000
#: Calls of a host whose mean duration counts.
LATEST = 50

MINUTES, HOURS, DAYS = 60, 24, 30
_SECOND = timedelta(seconds=1)

CLOCK = """
SELECT now() AS now, date_trunc('minute', now()) AS minute,
       date_trunc('hour', now()) AS hour, date_trunc('day', now()) AS day,
       date_trunc('second', now()) AS second,
       pg_relation_size('timer')
           / current_setting('block_size')::float AS pages
"""

_SLEEPS = "next_at >= now() + interval '1 min'"
_OWN = " UNION ALL ".join(
    f"""
    (SELECT next_at, host FROM timer
     WHERE account_id = %(account)s AND {NOT_LEASED}
       AND ({STATUS}) COLLATE "C" = '{status}'
     LIMIT %(few)s)
    """
    for status in ("scheduled", "deferred", "retrying")
)
COUNT_OWN = f"""
SELECT count(*) AS waiting, count(*) FILTER (WHERE {_SLEEPS}) AS asleep
FROM (SELECT next_at FROM ({_OWN}) AS own LIMIT %(few)s) AS counted
"""


def _sampled(again: str = "") -> str:
    """Return a query of the timers that wait, on some of the table's pages."""
    return f"""
        SELECT next_at, host
        FROM timer TABLESAMPLE SYSTEM (%(percent)s::float) {again}
        WHERE account_id = %(account)s AND fired_at IS NULL
          AND outcome IS NULL
    """


# The same pages each time: Postgres has them in its memory then, and the
# number is steady.
COUNT_SAMPLED = f"""
SELECT count(*) AS asleep
FROM ({_sampled("REPEATABLE (1)")}) AS sampled WHERE {_SLEEPS}
"""
_NEXT = " UNION ALL ".join(
    f"""
    (SELECT next_at, host, account_id FROM timer
     WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS {queued}
       AND next_at >= %(now)s AND next_at < %(minute)s + interval '1 hour'
     ORDER BY next_at LIMIT %(next)s)
    """
    for queued in ("NULL", "NOT NULL")
)


def _counts(kind: str, seconds: int, most: int) -> str:
    """Return a query of how many are due in each minute, hour or day."""
    return f"""
        SELECT '{kind}' AS kind, NULL AS host,
               floor(extract(epoch FROM next_at - %({kind})s)
                     / {seconds})::integer AS number,
               count(*) AS count
        FROM waiting
        WHERE next_at < %({kind})s + {most} * interval '{seconds} s'
        GROUP BY number
    """


_OVERVIEW = " UNION ALL ".join((
    _counts("minute", 60, MINUTES),
    _counts("hour", 3600, HOURS),
    _counts("day", 86_400, DAYS),
    """
        (SELECT 'second', host,
                floor(extract(epoch FROM next_at - %(second)s))::integer,
                count(*)
         FROM waiting WHERE next_at < %(now)s + interval '1 day'
         GROUP BY 2, 3 HAVING count(*) > 1
         ORDER BY 4 DESC, 3 LIMIT %(herds)s)
    """,
))


def _overview(source: str) -> str:
    return f"""
        WITH waiting AS MATERIALIZED (
            SELECT next_at, host FROM ({source}) AS found
            WHERE next_at >= %(now)s
        )
        {_OVERVIEW}
    """


ALL = _overview(_OWN)
SAMPLE = _overview(_sampled())
# The minutes that are read to their end, and nothing beyond.
NEAR = f"""
WITH next AS MATERIALIZED (
    SELECT * FROM ({_NEXT}) AS found ORDER BY next_at LIMIT %(next)s
)
SELECT floor(extract(epoch FROM next_at - %(minute)s) / 60)::integer AS number,
       count(*) FILTER (WHERE account_id = %(account)s) AS count,
       (SELECT count(*) FROM next) AS read
FROM next GROUP BY number ORDER BY number
"""
IN_SECOND = f"""
SELECT count(*) FROM (
    SELECT FROM timer
    WHERE account_id = %(account)s AND {NOT_LEASED}
      AND ({STATUS}) COLLATE "C" = 'scheduled'
      AND host COLLATE "C" = %(host)s
      AND due_at >= %(since)s AND due_at < %(until)s
    LIMIT %(most)s
) AS counted
"""
_LATEST = " UNION ALL ".join(
    f"""
    (SELECT id FROM timer
     WHERE account_id = %(account)s AND {NOT_LEASED}
       AND ({STATUS}) COLLATE "C" = '{status}'
       AND host COLLATE "C" = wanted.host
     ORDER BY due_at DESC, id DESC LIMIT %(latest)s)
    """
    for status in ("delivered", "failed")
)
DURATIONS = f"""
SELECT wanted.host,
       avg(extract(epoch FROM attempt.duration))::float AS seconds
FROM unnest(%(hosts)s::text[]) AS wanted (host)
CROSS JOIN LATERAL (SELECT * FROM ({_LATEST}) AS found OFFSET 0) AS latest
CROSS JOIN LATERAL (
    SELECT duration FROM attempt
    WHERE timer_id = latest.id AND status_code IS NOT NULL OFFSET 0
) AS attempt
GROUP BY wanted.host
"""


@dataclass(frozen=True, slots=True)
class Asleep:
    """How many timers are due in over a minute."""

    count: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Due:
    """How many timers are due in a while that begins at a moment."""

    at: datetime
    count: int
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Herd:
    """How many timers are due at a host in the second from a moment on."""

    at: datetime
    host: str
    count: int
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Ahead:
    """What lies ahead: in minutes, hours and days, and the fullest seconds.

    is_sample  whether what is not exact was estimated from a sample
    """

    now: datetime
    minutes: Sequence[Due]
    hours: Sequence[Due]
    days: Sequence[Due]
    herds: Sequence[Herd]
    is_sample: bool


def ahead(connection: Connection, account: int) -> Ahead:
    """Return what lies ahead of an account."""
    (clock,) = named(connection.execute(CLOCK))
    pages = clock.pop("pages")
    values: dict[str, Any] = {
        **clock, "account": account, "few": FEW, "next": NEXT,
        "herds": HERDS,
    }
    if _counted(connection, account)["waiting"] < FEW:
        rows = named(connection.execute(ALL, values))
        return _read(clock, rows, 1)
    percent = _percent(pages)
    values["percent"] = percent
    rows = named(connection.execute(SAMPLE, values))
    found = _read(clock, rows, percent / 100)
    near = named(connection.execute(NEAR, values))
    herds = [_recounted(connection, values, herd) for herd in found.herds]
    herds.sort(key=lambda herd: -herd.count)
    return Ahead(
        found.now, list(_corrected(found.minutes, near)), found.hours,
        found.days, herds, is_sample=True,
    )


def asleep(connection: Connection, account: int) -> Asleep:
    """Return how many of an account's timers sleep.

    That is exact if fewer than FEW of its timers wait.
    """
    counted = _counted(connection, account)
    if counted["waiting"] < FEW:
        return Asleep(counted["asleep"], is_exact=True)
    (clock,) = named(connection.execute(CLOCK))
    percent = _percent(clock["pages"])
    values = {"account": account, "percent": percent}
    (sampled,) = named(connection.execute(COUNT_SAMPLED, values))
    count = max(sampled["asleep"] * 100 / percent, counted["asleep"])
    # More digits would say nothing.
    return Asleep(int(float(f"{count:.1e}")), is_exact=False)


def _counted(connection: Connection, account: int) -> Row:
    """Count how many timers of an account wait, and sleep, up to FEW."""
    values = {"account": account, "few": FEW}
    return named(connection.execute(COUNT_OWN, values))[0]


def _percent(pages: float) -> float:
    """Return the share of the table's pages that are read."""
    return min(100.0, 100 * PAGES / max(pages, 1))


def durations(
    connection: Connection, account: int, hosts: Iterable[str]
) -> dict[str, float]:
    """Return the mean duration of each host's latest answers, in seconds.

    A host without one is left out.
    """
    values = {
        "account": account, "hosts": list(hosts), "latest": LATEST,
    }
    rows = named(connection.execute(DURATIONS, values))
    return {row["host"]: row["seconds"] for row in rows}


def _read(clock: Row, rows: Sequence[Row], share: float) -> Ahead:
    """Return what rows tell that are such a share of all rows."""
    counts = {
        (row["kind"], row["number"]): round(row["count"] / share)
        for row in rows
    }

    def due(kind: str, length: timedelta, most: int) -> list[Due]:
        return [
            Due(
                clock[kind] + number * length, counts.get((kind, number), 0),
                share == 1,
            )
            for number in range(most)
        ]

    seconds = [row for row in rows if row["kind"] == "second" and row["host"]]
    return Ahead(
        clock["now"],
        due("minute", timedelta(minutes=1), MINUTES),
        due("hour", timedelta(hours=1), HOURS),
        due("day", timedelta(days=1), DAYS),
        [
            Herd(
                clock["second"] + row["number"] * _SECOND, row["host"],
                round(row["count"] / share), share == 1,
            )
            for row in seconds
        ],
        is_sample=share != 1,
    )


def _recounted(
    connection: Connection, values: dict[str, Any], herd: Herd
) -> Herd:
    """Count the timers of a herd that a sample has shown."""
    row = connection.execute(
        IN_SECOND,
        {
            **values, "host": herd.host, "since": herd.at,
            "until": herd.at + _SECOND, "most": MOST,
        },
    ).fetchone()
    assert row is not None
    if row[0] < MOST:
        return Herd(herd.at, herd.host, row[0])
    return Herd(herd.at, herd.host, max(row[0], herd.count), is_exact=False)


def _corrected(
    minutes: Sequence[Due], near: Sequence[Row]
) -> Iterable[Due]:
    """Yield the minutes; those that were read to their end are exact."""
    counts = {row["number"]: row["count"] for row in near}
    is_all = not near or near[0]["read"] < NEXT
    end = MINUTES if is_all else near[-1]["number"]
    for number, minute in enumerate(minutes):
        if number < end:
            yield Due(minute.at, counts.get(number, 0))
        else:
            yield minute

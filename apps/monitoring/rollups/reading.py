"""What pages read of the roll-ups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from apps.core.database import Connection
from apps.core.rows import Row, named
from apps.monitoring.rollups.names import BANDS, BOUNDS, RESULTS

#: How long calls may be late to stand in each of the three bands, in ms.
LIMITS = (5, 50, 1_000)
_MINUTE = timedelta(minutes=1)
_HOUR = 60  # minutes


def _of_bands(last: int) -> str:
    """Return how many calls are in the first bands, of all roll-ups."""
    bands = " + ".join(f"late[{place}]" for place in range(1, last + 1))
    return f"coalesce(sum({bands}), 0)::bigint"


_SHARES = f"""{", ".join(
    _of_bands(BOUNDS.index(limit) + 1) for limit in LIMITS
)}, {_of_bands(BANDS)}"""
# Hours are read where a minute more or less does not matter: 24 h are this
# hour and the 23 before it.
SHARES = " UNION ALL ".join(
    f"""
    SELECT {place} AS place, '{span}', {_SHARES} FROM roll_up
    WHERE account_id = %(account)s AND minutes = {minutes}
      AND at > now() - interval '{term}'
    """
    for place, span, minutes, term in (
        (1, "1 h", 1, "1 hour"),
        (2, "24 h", 60, "24 hours"),
        (3, "30 d", 60, "30 days"),
    )
) + " ORDER BY place"

_COLUMNS = "at, calls, results, late, took, late_most, took_most"
LAST_HOUR = f"""
SELECT date_trunc('minute', now()) AS now, {_COLUMNS}
FROM (SELECT now()) AS clock
LEFT JOIN roll_up ON account_id = %(account)s AND minutes = 1
          AND at > date_trunc('minute', now()) - interval '1 h'
ORDER BY at
"""

BUSIEST = """
SELECT host FROM roll_up_host
WHERE account_id = %(account)s
  AND at > date_trunc('minute', now()) - interval '1 h'
  AND (%(host)s::text IS NULL OR host = %(host)s)
GROUP BY host
ORDER BY sum(calls) DESC, host
LIMIT %(limit)s + 1
"""
OF_HOSTS = f"""
SELECT host, {_COLUMNS}
FROM roll_up_host
WHERE account_id = %(account)s AND host = ANY(%(hosts)s)
  AND at > date_trunc('minute', now()) - interval '1 h'
ORDER BY at
"""


@dataclass(frozen=True, slots=True)
class Share:
    """How many calls of a span were on time.

    within  how many were no later than each of LIMITS
    calls   how many left
    """

    span: str
    within: Sequence[int]
    calls: int


@dataclass(slots=True)
class Sums:
    """What happened in some time.

    calls    how many tries there were
    results  how many of them ended so, by `RESULTS`
    late, took  how many calls are in each band
    """

    calls: int = 0
    results: Sequence[int] = (0,) * len(RESULTS)
    late: Sequence[int] = (0,) * BANDS
    took: Sequence[int] = (0,) * BANDS
    late_most: timedelta | None = None
    took_most: timedelta | None = None

    def named_results(self) -> dict[str, int]:
        """Return how many tries ended so, without those that none did."""
        return {
            name: count
            for name, count in zip(RESULTS, self.results, strict=False)
            if count
        }

    def late_ms(self, share: float) -> float | None:
        """Return how late no more than a share of the calls were, in ms."""
        return _quantile(self.late, self.late_most, share)

    def took_ms(self, share: float) -> float | None:
        """Return how long no more than a share of the calls took, in ms."""
        return _quantile(self.took, self.took_most, share)


@dataclass(slots=True)
class HostSums:
    """What happened at a host in the last hour, minute by minute."""

    host: str
    total: Sums = field(default_factory=Sums)
    minutes: dict[datetime, Sums] = field(default_factory=dict)


def shares(connection: Connection, account: int) -> list[Share]:
    """Return how many calls were on time, over 1 h, 24 h and 30 days."""
    rows = connection.execute(SHARES, {"account": account}).fetchall()
    return [Share(span, within, calls) for _, span, *within, calls in rows]


def last_hour(connection: Connection, account: int) -> dict[datetime, Sums]:
    """Return each minute of the last hour, this one included, in order."""
    rows = named(
        connection.execute(LAST_HOUR, {"account": account}, binary=True)
    )
    now: datetime = rows[0]["now"]
    known = {row["at"]: _sums(row) for row in rows if row["at"] is not None}
    return {at: known.get(at, Sums()) for at in minutes(now)}


def minutes(now: datetime) -> list[datetime]:
    """Return when the minutes of the last hour began; `now` is the last."""
    return [now - _MINUTE * ago for ago in reversed(range(_HOUR))]


def hosts(
    connection: Connection, account: int, host: str | None, limit: int
) -> tuple[list[HostSums], bool]:
    """Return the hosts with the most tries in the last hour, in order.

    And whether there are more. `host`: only this one.
    """
    values: dict[str, Any]
    values = {"account": account, "host": host, "limit": limit}
    names = [name for (name,) in connection.execute(BUSIEST, values)]
    found = {name: HostSums(name) for name in names[:limit]}
    values = {"account": account, "hosts": [*found]}
    for row in named(connection.execute(OF_HOSTS, values, binary=True)):
        sums = _sums(row)
        found[row["host"]].minutes[row["at"]] = sums
    for each in found.values():
        each.total = total(each.minutes.values())
    return [*found.values()], len(names) > limit


def total(sums: Iterable[Sums]) -> Sums:
    """Add up."""
    each = [Sums(), *sums]
    return Sums(
        sum(one.calls for one in each),
        _added(one.results for one in each),
        _added(one.late for one in each),
        _added(one.took for one in each),
        _most(one.late_most for one in each),
        _most(one.took_most for one in each),
    )


def _sums(row: Row) -> Sums:
    return Sums(
        row["calls"], row["results"], row["late"], row["took"],
        row["late_most"], row["took_most"],
    )


def _added(counts: Iterable[Sequence[int]]) -> Sequence[int]:
    """Add up; a row of an older version may have fewer places."""
    return [sum(each) for each in zip_longest(*counts, fillvalue=0)]


def _most(durations: Iterable[timedelta | None]) -> timedelta | None:
    known = [each for each in durations if each is not None]
    return max(known, default=None)


def _quantile(
    counts: Sequence[int], most: timedelta | None, share: float
) -> float | None:
    """Return about where in a band the quantile is, in milliseconds.

    Durations are taken to lie evenly in their band; none is beyond the most.
    """
    left = share * sum(counts)
    if not left or most is None:
        return None
    most_ms = most.total_seconds() * 1000
    for number, count in enumerate(counts):
        if count >= left:
            begins = BOUNDS[number - 1] if number else 0.0
            ends = BOUNDS[number] if number < len(BOUNDS) else most_ms
            return min(begins + (ends - begins) * left / count, most_ms)
        left -= count
    return most_ms


def rate(minutes: Mapping[datetime, Sums]) -> float:
    """Return the calls a second of the last minute that is over."""
    *_, last, _now = minutes.values()
    return last.calls / 60

"""What roll-ups should say, by the rows that they are of."""

from collections import Counter
from typing import Any

from apps.core.database import pool
from apps.monitoring.rollups import adding
from apps.monitoring.rollups.names import BOUNDS, OUTCOMES, RESULTS

#: Everything that can be counted, by what it is and the host.
_RAW = f"""
SELECT host, 'ended ' || outcome, count(*)
FROM timer WHERE outcome IS NOT NULL GROUP BY 1, 2
UNION ALL
SELECT host, 'result ' || coalesce(attempt.status_code / 100 || 'xx',
                                   split_part(attempt.error, ':', 1)),
       count(*)
FROM attempt JOIN timer ON timer.id = timer_id GROUP BY 1, 2
UNION ALL
SELECT host, 'late ' || bound, count(*)
FROM attempt JOIN timer ON timer.id = timer_id,
     unnest(ARRAY{list(BOUNDS)}) AS bound
WHERE attempt.sent_at - attempt.due_at <= bound * interval '1 ms'
GROUP BY 1, 2
UNION ALL
SELECT host, 'took ' || bound, count(*)
FROM attempt JOIN timer ON timer.id = timer_id,
     unnest(ARRAY{list(BOUNDS)}) AS bound
WHERE duration <= bound * interval '1 ms'
GROUP BY 1, 2
"""


def _rows(query: str) -> list[tuple[Any, ...]]:
    with pool().connection() as connection:
        return connection.execute(query).fetchall()


def raw() -> Counter[tuple[str, str]]:
    """Return the numbers by SQL over timers and attempts."""
    return Counter({(host, what): count for host, what, count in _rows(_RAW)})


def rolled(table: str, condition: str = "true") -> Counter[tuple[str, str]]:
    """Return the sums of a table of roll-ups, with the same names."""
    host = "host" if table == "roll_up_host" else "''"
    found: Counter[tuple[str, str]] = Counter()
    for at, ended, results, late, took in _rows(
        f"SELECT {host}, ended, results, late, took FROM {table}"
        f" WHERE {condition}"
    ):
        for kind, names, counts in (
            ("ended", OUTCOMES, ended), ("result", RESULTS, results),
        ):
            for name, count in zip(names, counts, strict=True):
                found[at, f"{kind} {name}"] += count
        for kind, counts in (("late", late), ("took", took)):
            total = 0
            for bound, count in zip(BOUNDS, counts, strict=False):
                total += count
                found[at, f"{kind} {bound}"] += total
    return +found


def add_all() -> int:
    """Add all tallies to the roll-ups; return how many there were."""
    total = 0
    while done := adding.add():
        total += done
    return total


def of_all(numbers: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Return the numbers of all hosts together."""
    found: Counter[tuple[str, str]] = Counter()
    for (_, what), count in numbers.items():
        found["", what] += count
    return found


def check() -> None:
    """Add all tallies; assert that the roll-ups are what the rows say."""
    add_all()
    expected = raw()
    assert rolled("roll_up_host") == expected
    assert rolled("roll_up", "minutes = 1") == of_all(expected)
    assert rolled("roll_up", "minutes = 60") == of_all(expected)

"""What roll-ups should say, by the rows that they are of."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from apps.core.database import pool
from apps.dashboard.templatetags.charts import percent
from apps.monitoring.rollups import adding
from apps.monitoring.rollups.names import BOUNDS, OUTCOMES, RESULTS
from apps.monitoring.rollups.reading import LIMITS

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


#: Counts by host and by what was counted.
Numbers = Counter[tuple[str, str]]
#: Runs a query.
Ask = Callable[[str], list[tuple[Any, ...]]]


def _rows(query: str) -> list[tuple[Any, ...]]:
    with pool().connection() as connection:
        return connection.execute(query).fetchall()


def raw(ask: Ask = _rows) -> Numbers:
    """Return the numbers by SQL over timers and attempts."""
    return Counter({(host, what): count for host, what, count in ask(_RAW)})


def rolled(
    table: str, condition: str = "true", ask: Ask = _rows
) -> Numbers:
    """Return the sums of a table of roll-ups, with the same names."""
    host = "host" if table == "roll_up_host" else "''"
    found: Numbers = Counter()
    for at, ended, results, late, took in ask(
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


def of_all(numbers: Numbers) -> Numbers:
    """Return the numbers of all hosts together."""
    found: Numbers = Counter()
    for (_, what), count in numbers.items():
        found["", what] += count
    return found


def check(ask: Ask = _rows) -> None:
    """Assert that the roll-ups are what the rows say."""
    expected = raw(ask)
    assert rolled("roll_up_host", ask=ask) == expected
    assert rolled("roll_up", "minutes = 1", ask) == of_all(expected)
    assert rolled("roll_up", "minutes = 60", ask) == of_all(expected)


def shares(numbers: Numbers) -> list[str]:
    """Return what the page Now should say of what was on time."""
    total = of_all(numbers)
    calls = total["", f"late {BOUNDS[-1]}"]
    return [
        f"{percent(total['', f'late {limit}'] / calls)} within {limit} ms"
        for limit in LIMITS
    ]


def shown_shares(page: str) -> list[str]:
    """Return what the page Now says of what was on time in the last hour."""
    found = re.search(r'<th scope="row">1 h</th>(.*?)</tr>', page, re.DOTALL)
    assert found is not None
    return re.findall(r"<span>(.*?)</span>", found[1])

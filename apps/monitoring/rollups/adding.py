"""Adding tallies to roll-ups, exactly once.

Whoever records what came of a timer writes a tally in the same statement: a
narrow row in a table without an index. Here they are deleted and added up in
one transaction. So the sums are those of the rows, whatever is killed when.
"""

from collections.abc import Iterator, Sequence

from apps.core.database import pool
from apps.monitoring.rollups.names import (
    BANDS,
    BOUNDS,
    OTHER,
    OUTCOMES,
    RESULTS,
)

#: How many tallies one transaction adds at most.
BATCH = 5_000
#: How many hosts of an account one transaction tells apart, those with the
#: most calls. Anybody may name hosts; the others count in the totals alone.
HOSTS = 100
#: The advisory lock of those who add: any number does.
_KEY = 7_161_943_025

_LOCK = f"SELECT pg_try_advisory_xact_lock({_KEY})"

_BOUNDS = "ARRAY[{}]::interval[]".format(
    ", ".join(f"'{bound} ms'" for bound in BOUNDS)
)


def _places(names: Sequence[str]) -> str:
    return "ARRAY[{}]".format(", ".join(f"'{name}'" for name in names))


def _band(duration: str) -> str:
    """Return the place of a band; a bound belongs to the band below it."""
    return f"width_bucket({duration} - interval '1 us', {_BOUNDS}) + 1"


def _counts(column: str, size: int) -> str:
    """Return an array of how many there are at each place."""
    return "ARRAY[{}]::integer[]".format(", ".join(
        f"coalesce(sum(times) FILTER (WHERE {column} = {place}), 0)"
        for place in range(1, size + 1)
    ))


def _sum(table: str, column: str) -> str:
    """Return the sum of two arrays, which may be of different lengths."""
    return f"""ARRAY(
        SELECT coalesce(old, 0) + coalesce(new, 0)
        FROM unnest({table}.{column}, excluded.{column})
             WITH ORDINALITY AS t (old, new, place) ORDER BY place
    )"""


_SUMS = f"""
    coalesce(sum(times) FILTER (WHERE result IS NOT NULL), 0),
    {_counts("ended", len(OUTCOMES))}, {_counts("result", len(RESULTS))},
    {_counts("late_band", BANDS)}, {_counts("took_band", BANDS)},
    max(late_most), max(took_most)
"""
_COLUMNS = "calls, ended, results, late, took, late_most, took_most"


def _upsert(table: str) -> str:
    return f"""
    SET calls = {table}.calls + excluded.calls,
        ended = {_sum(table, "ended")}, results = {_sum(table, "results")},
        late = {_sum(table, "late")}, took = {_sum(table, "took")},
        late_most = greatest({table}.late_most, excluded.late_most),
        took_most = greatest({table}.took_most, excluded.took_most)
    """


# A cell has all tallies of a minute and a host that are alike. There are few,
# however many tallies.
ADD = f"""
WITH batch AS MATERIALIZED (
    DELETE FROM tally
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM tally LIMIT {BATCH}))
    RETURNING *
),
told AS (
    SELECT account_id, date_trunc('minute', at, 'UTC') AS minute,
           left(host, 255) AS host, times,
           array_position({_places(OUTCOMES)}, outcome) AS ended,
           CASE WHEN status_code IS NOT NULL OR failure IS NOT NULL
                THEN coalesce(
                    array_position({_places(RESULTS)},
                                   coalesce(status_code / 100 || 'xx',
                                            failure)),
                    {RESULTS.index(OTHER) + 1})
           END AS result,
           CASE WHEN least(due_at, sent_at) >= 'epoch'
                     AND greatest(due_at, sent_at) < '9999-12-31T00:00Z'
                THEN sent_at - due_at END AS late,
           duration
    FROM batch
),
cells AS MATERIALIZED (
    SELECT account_id, minute, host, ended, result,
           {_band("late")} AS late_band, {_band("duration")} AS took_band,
           sum(times) AS times, max(late) AS late_most,
           max(duration) AS took_most
    FROM told
    GROUP BY account_id, minute, host, ended, result, late_band, took_band
),
busiest AS (
    SELECT account_id, host FROM (
        SELECT account_id, host,
               row_number() OVER (PARTITION BY account_id
                                  ORDER BY sum(times) DESC, host) AS place
        FROM cells WHERE host IS NOT NULL GROUP BY account_id, host
    ) AS ranked
    WHERE place <= {HOSTS}
),
hosts AS (
    INSERT INTO roll_up_host (account_id, at, host, {_COLUMNS})
    SELECT account_id, minute, host, {_SUMS}
    FROM cells JOIN busiest USING (account_id, host)
    GROUP BY account_id, minute, host
    ON CONFLICT (account_id, at, host) DO UPDATE {_upsert("roll_up_host")}
),
totals AS (
    INSERT INTO roll_up (account_id, minutes, at, {_COLUMNS})
    SELECT account_id, minutes, date_trunc(unit, minute, 'UTC') AS at, {_SUMS}
    FROM cells, (VALUES (1, 'minute'), (60, 'hour')) AS span (minutes, unit)
    GROUP BY account_id, minutes, 3
    ON CONFLICT (account_id, minutes, at) DO UPDATE {_upsert("roll_up")}
)
SELECT count(*) FROM batch
"""

#: Rows that are removed: their table, their condition, and the age from which
#: they are removed.
_KEPT = (
    ("roll_up_host", "true", "25 hours"),
    ("roll_up", "minutes = 1", "30 days"),
    ("roll_up", "minutes = 60", "400 days"),
)
FORGET = tuple(
    f"""
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT old.ctid FROM account CROSS JOIN LATERAL (
            SELECT ctid FROM {table}
            WHERE account_id = account.id AND {condition}
              AND at < now() - interval '{term}'
            ORDER BY at LIMIT {BATCH}
        ) AS old LIMIT {BATCH}
    ))
    """
    for table, condition, term in _KEPT
)


def add() -> int:
    """Add a batch of tallies to their minutes and hours; return how many.

    0 as well if another process just does that.
    """
    with pool().connection() as connection, connection.transaction():
        is_mine = connection.execute(_LOCK).fetchone()
        if is_mine != (True,):
            return 0
        row = connection.execute(ADD).fetchone()
    assert row is not None
    return int(row[0])


def forget() -> Iterator[int]:
    """Remove roll-ups that are too old, batch by batch; yield how many."""
    for statement in FORGET:
        removed = BATCH
        while removed == BATCH:
            with pool().connection() as connection:
                removed = connection.execute(statement).rowcount
            yield removed

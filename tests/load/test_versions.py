"""What a timer's life costs Postgres: CPU, versions of its row, bytes.

`make test ARGS="-n 0 -m load -s tests/load/test_versions.py"`. The real
statements run in groups of 50, on one connection, beside 200,000 sleepers.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from apps.core import database
from apps.core.database import close_pool, connect, pool
from apps.timers.storage import claiming, queueing, recording, retention
from apps.timers.storage.claim_records import Claim, ClaimRequest, Mark
from tests.support.rows import database_clock, new_timers, report

pytestmark = [
    pytest.mark.load, pytest.mark.timeout(1200),
    pytest.mark.usefixtures("db_pool"),
]

GROUP = 50
TIMERS = 40_000
#: After how many groups there is a vacuum; autovacuum has 1 % as its limit.
VACUUM = 200
#: How many groups wait, and how many are under way, at a time.
WAITING, FIRING = 20, 2
URL = "https://receiver.example/orders/17/reminders"

#: How many days the partitions by id are for.
PARTITIONS = 40
# The table as it is, with its indexes, in partitions.
DIVIDE = f"""
DO $$
DECLARE
    definition text;
    first text := 'MINVALUE';
    next text;
BEGIN
    CREATE TABLE parts (LIKE timer INCLUDING DEFAULTS) PARTITION BY RANGE (id);
    FOR day IN 1..{PARTITIONS} LOOP
        next := CASE day WHEN {PARTITIONS} THEN 'MAXVALUE' ELSE quote_literal(
            rpad(lpad(to_hex((extract(epoch FROM
                now() + (day - {PARTITIONS} + 1) * interval '1 day'
            ) * 1000)::bigint), 12, '0') || '7', 32, '0')::uuid) END;
        EXECUTE format('CREATE TABLE part%s PARTITION OF parts'
                       ' FOR VALUES FROM (%s) TO (%s)', day, first, next);
        first := next;
    END LOOP;
    FOR definition IN SELECT indexdef FROM pg_indexes
                      WHERE tablename = 'timer' LOOP
        EXECUTE replace(replace(definition, 'INDEX timer_', 'INDEX parts_'),
                        '.timer USING', '.parts USING');
    END LOOP;
    ALTER TABLE timer RENAME TO whole;
    ALTER TABLE parts RENAME TO timer;
END $$
"""
#: What differs: SQL to run first.
SCHEMAS = {
    "as it is": "SELECT",
    "fill factor 100": "ALTER TABLE timer SET (fillfactor = 100)",
    "fill factor 90": "ALTER TABLE timer SET (fillfactor = 90)",
    "fill factor 60": "ALTER TABLE timer SET (fillfactor = 60)",
    "an index on the end": (
        "CREATE INDEX timer_ended ON timer (fired_at)"
        " WHERE outcome IS NOT NULL"
    ),
    "partitions by id": DIVIDE,
}
UNDO = """
DO $$ BEGIN
    DROP INDEX IF EXISTS timer_ended;
    IF to_regclass('whole') IS NULL THEN
        ALTER TABLE timer SET (fillfactor = 80);
    ELSE
        DROP TABLE timer;
        ALTER TABLE whole RENAME TO timer;
    END IF;
END $$
"""
# Sleepers of the last 23 days.
SLEEP = """
INSERT INTO timer (id, url, host, created_at, due_at, next_at)
SELECT uuidv7(-n * interval '10 s'), 'https://a.example/', 'a.example', now(),
       now() + n * interval '1 min' + interval '1 day',
       now() + n * interval '1 min' + interval '1 day'
FROM generate_series(1, 200000) AS n
"""


class Costs:
    """Nanoseconds of the session's process, by what it did."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = defaultdict(int)

    def of(self, what: str, run: Callable[[], object]) -> None:
        before = _on_cpu()
        run()
        self.spent[what] += _on_cpu() - before


def _on_cpu() -> int:
    with pool().connection() as connection:
        pid = connection.info.backend_pid
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def live(costs: Costs, *, far: bool) -> None:
    """Have TIMERS timers created, claimed, marked and recorded."""
    waiting: deque[list[UUID]] = deque()
    firing: deque[Sequence[Claim]] = deque()

    def create() -> None:
        waiting.append(new_timers(GROUP, 0, url=URL, queued=not far))

    def claim() -> None:
        asked = [ClaimRequest(i, uuid4()) for i in waiting.popleft()]
        claims = [
            each for each in claiming.claim(asked) if isinstance(each, Claim)
        ]
        assert len(claims) == GROUP
        firing.append(claims)

    def mark() -> None:
        now = database_clock()
        claiming.mark_sent([Mark(c.id, c.token, now) for c in firing[-1]])

    def record() -> None:
        recording.record([report(each) for each in firing.popleft()])

    for number in range(TIMERS // GROUP + WAITING + FIRING):
        if number % VACUUM == VACUUM - 1:
            costs.of("vacuum", vacuum)
        if number < TIMERS // GROUP:
            costs.of("create", create)
            if far:
                costs.of("promote", lambda: queueing.promote(
                    overdue=False, limit=GROUP
                ))
        if len(waiting) > WAITING or (number >= TIMERS // GROUP and waiting):
            costs.of("claim", claim)
            costs.of("mark", mark)
        if len(firing) > FIRING or (not waiting and firing):
            costs.of("record", record)
    while firing:
        costs.of("record", record)


def vacuum() -> None:
    with pool().connection() as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("VACUUM ANALYZE timer")


def figures() -> dict[str, int]:
    with pool().connection() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_hot_upd),"
            " sum(pg_relation_size(relid)), sum(pg_indexes_size(relid)),"
            " pg_total_relation_size('attempt'),"
            " pg_relation_size('timer_pkey'),"
            " pg_current_wal_insert_lsn() - '0/0'"
            " FROM pg_stat_user_tables"
            " WHERE relname IN ('timer', 'whole') OR relname LIKE 'part%'"
        ).fetchone()
    assert row is not None
    names = (
        "inserted", "updated", "hot", "table", "indexes", "attempts", "key",
        "wal",
    )
    return dict(zip(names, row, strict=True))


@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_a_life_costs(
    schema: str, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits for a connection, so that there is no second one.
    monkeypatch.setattr(database, "_LIFETIME", 3600.0)
    close_pool()
    pool().wait()
    with connect() as connection:
        connection.execute(SCHEMAS[schema])
    try:
        with connect() as connection:
            connection.execute(SLEEP)
        vacuum()
        before, costs = figures(), Costs()
        live(costs, far=far)
        vacuum()
        after = figures()
    finally:
        with connect() as connection:
            connection.execute(UNDO)
    used = {name: after[name] - before[name] for name in after}
    each = {
        name: round(ns / TIMERS / 1000, 1) for name, ns in costs.spent.items()
    }
    sizes = {
        name: round(used[name] / TIMERS)
        for name in ("table", "indexes", "attempts", "key")
    }
    wal = used["wal"] / TIMERS
    print(
        f"\n{schema}, {'far' if far else 'near'}:"
        f" µs {each}, in all {sum(each.values()):.1f};"
        f" versions {1 + used['updated'] / used['inserted']:.2f},"
        f" HOT {used['hot'] / used['updated']:.0%};"
        f" bytes {sizes}, in all {sum(sizes.values()) - sizes['key']},"
        f" of WAL {wal:.0f}"
    )


END = """
WITH stored AS (
    INSERT INTO timer (id, url, host, created_at, due_at, next_at, fired_at,
                       claim_token, claims, sent_at, outcome, status_code)
    SELECT uuidv7(), %(url)s, 'receiver.example', now(), at, at, at,
           gen_random_uuid(), 1, at, 'delivered', 200
    FROM (SELECT now() - n * interval '1 ms' AS at
          FROM generate_series(1, 40000) AS n) AS moments
    RETURNING id, due_at
)
INSERT INTO attempt (timer_id, number, due_at, status_code, duration)
SELECT id, 1, due_at, 200, interval '5 ms' FROM stored
"""
#: What ended on one day, with the indexes that lists need.
A_DAY = """
CREATE TABLE ended (LIKE timer INCLUDING ALL);
CREATE TABLE ended_attempt (LIKE attempt INCLUDING ALL)
"""
MOVE = """
WITH gone AS (
    DELETE FROM timer WHERE id = ANY(%(ids)b) RETURNING *
),
tried AS (
    DELETE FROM attempt WHERE timer_id = ANY(%(ids)b) RETURNING *
),
kept AS (
    INSERT INTO ended SELECT * FROM gone
)
INSERT INTO ended_attempt SELECT * FROM tried
"""


def move(ids: list[UUID]) -> None:
    with pool().connection() as connection:
        connection.execute(MOVE, {"ids": ids})


def remove(ids: list[UUID]) -> None:
    assert retention._remove(timedelta(0), ids) == [len(ids)]


@pytest.mark.parametrize("way", [remove, move])
def test_what_the_end_of_retention_costs(
    way: Callable[[list[UUID]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LIFETIME", 3600.0)
    close_pool()
    pool().wait()
    with connect() as connection:
        connection.execute(A_DAY)
        try:
            connection.execute(SLEEP)
            connection.execute(END, {"url": URL})
            vacuum()
            ids = [timer_id for (timer_id,) in connection.execute(
                "SELECT id FROM timer WHERE outcome IS NOT NULL ORDER BY id"
            )]
            costs = Costs()
            for first in range(0, len(ids), 500):
                group = ids[first:first + 500]
                costs.of("each", lambda: way(group))  # noqa: B023
            costs.of("vacuum", vacuum)
        finally:
            connection.execute("DROP TABLE ended, ended_attempt")
    for name, ns in costs.spent.items():
        print(f"\n{way.__name__}, {name}: {ns / len(ids) / 1000:.1f} µs")

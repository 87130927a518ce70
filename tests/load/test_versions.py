"""What a timer's life costs Postgres: CPU, versions of its row, bytes.

`make test ARGS="-n 0 -m load -s tests/load/test_versions.py"`. The real
statements run in groups of 50, on one connection, beside 200,000 sleepers.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from apps.core import database
from apps.core.database import close_pool, pool
from apps.timers.storage import claiming, queueing, recording
from apps.timers.storage.records import Claim, ClaimRequest, Mark
from tests.support.rows import database_clock, fill, new_timers, report

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

#: What differs: SQL to run first.
SCHEMAS = {
    "as it is": "SELECT",
    "fill factor 100": "ALTER TABLE timer SET (fillfactor = 100)",
    "fill factor 90": "ALTER TABLE timer SET (fillfactor = 90)",
    "fill factor 80": "ALTER TABLE timer SET (fillfactor = 80)",
    "fill factor 60": "ALTER TABLE timer SET (fillfactor = 60)",
    "an index on the end": (
        "CREATE INDEX timer_ended ON timer (fired_at)"
        " WHERE outcome IS NOT NULL"
    ),
}
UNDO = "ALTER TABLE timer RESET (fillfactor); DROP INDEX IF EXISTS timer_ended"


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
            "SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd,"
            " pg_relation_size('timer'), pg_indexes_size('timer'),"
            " pg_total_relation_size('attempt')"
            " FROM pg_stat_user_tables WHERE relname = 'timer'"
        ).fetchone()
    assert row is not None
    names = ("inserted", "updated", "hot", "table", "indexes", "attempts")
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
    with pool().connection() as connection:
        connection.execute(SCHEMAS[schema])
    try:
        tomorrow = "now() + n * interval '1 s' + interval '1 day'"
        fill(200_000, f"due_at = {tomorrow}; next_at = {tomorrow};"
                      " host = 'a.example'")
        vacuum()
        before, costs = figures(), Costs()
        live(costs, far=far)
        vacuum()
        after = figures()
    finally:
        with pool().connection() as connection:
            connection.execute(UNDO)
    used = {name: after[name] - before[name] for name in after}
    each = {
        name: round(ns / TIMERS / 1000, 1) for name, ns in costs.spent.items()
    }
    sizes = {
        name: round(used[name] / TIMERS)
        for name in ("table", "indexes", "attempts")
    }
    print(
        f"\n{schema}, {'far' if far else 'near'}:"
        f" µs {each}, in all {sum(each.values()):.1f};"
        f" versions {1 + used['updated'] / used['inserted']:.2f},"
        f" HOT {used['hot'] / used['updated']:.0%};"
        f" bytes {sizes}, in all {sum(sizes.values())}"
    )

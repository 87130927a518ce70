"""Every list is made by index scans that end with the page."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from apps.core.database import Connection, close_pool, connect, list_pool
from apps.timers.storage import ahead, finding, overview, suggesting
from apps.timers.storage.records import STATUSES, TimerFilter
from tests.support.accounts import OWNER
from tests.support.rows import fill as fill_rows

COUNT = 100_000
LIMIT = 100
#: The account that has few timers.
FEW = 2
#: A page is made of up to 12 parts, in which up to two labels are looked up.
#: Timers that are put off are passed over where others are scheduled; here
#: these are 2,000.
MOST_READ = 3_000

# One account has 200 timers, another one all others.
# Of 100 timers, 60 were delivered, 31 wait and 1 is queued; of each other
# status there are a few; 1 in 10,000 is being called. All are mixed by time.
FILL = """
INSERT INTO timer (id, account_id, url, host, created_at, due_at, next_at,
                   queued_at, fired_at, leased_until, claims, deferred,
                   outcome, key, labels)
SELECT gen_random_uuid(), CASE WHEN n % 499 = 0 THEN {few} ELSE 1 END,
       'http://' || host || '/', host, now(), due_at,
       CASE kind WHEN 95 THEN now() + interval '1 min'
                 WHEN 96 THEN now() + interval '1 min'
                 ELSE due_at END,
       CASE kind WHEN 99 THEN now() END,
       CASE WHEN called THEN due_at END,
       CASE WHEN fires THEN now() + interval '20 s' END,
       (called OR kind = 96)::int,
       kind = 95, outcome,
       CASE n % 5 WHEN 0 THEN 'order-' || n / 5 WHEN 1 THEN 'job' END,
       jsonb_build_object('kind', (ARRAY['mail', 'sms', 'call'])[n % 3 + 1],
                          'user', (n % 10007)::text)
FROM (
    SELECT n, kind, n % 10000 = 99 AS fires,
           CASE WHEN n % 2 = 0 THEN 'big.example'
                ELSE 'h' || n % 1009 || '.example' END AS host,
           now() + CASE WHEN kind BETWEEN 60 AND 94 THEN 1 ELSE -1 END
                   * interval '1 s' * (n * 7919::bigint % 1000003) AS due_at,
           CASE WHEN kind < 60 THEN 'delivered'
                WHEN kind = 93 THEN 'failed' WHEN kind = 94 THEN 'unknown'
                WHEN kind = 97 THEN 'missed'
                WHEN kind = 98 THEN 'cancelled' END AS outcome
    FROM (SELECT n, (n * 31::bigint % 100)::int AS kind
          FROM generate_series(1, {count}) AS n) AS numbered
) AS made, LATERAL (
    SELECT fires OR coalesce(outcome <> 'cancelled', false) AS called
) AS more
"""
LABEL = """
INSERT INTO timer_label (account_id, name, value, due_at, timer_id)
SELECT account_id, label.key, label.value, due_at, id
FROM timer, jsonb_each_text(labels) AS label
"""
# Postgres reads an empty table whole, with good reason.
ATTEMPT = """
INSERT INTO attempt (timer_id, number, due_at, status_code, duration)
SELECT id, 1, due_at, 200, interval '10 ms'
FROM timer WHERE outcome = 'delivered'
"""


def fill(count: int) -> None:
    """Store timers of all statuses with their calls, labels and keys."""
    with connect() as connection:
        connection.execute(FILL.format(count=count, few=FEW))
        connection.execute(LABEL)
        connection.execute(ATTEMPT)
        connection.execute("VACUUM ANALYZE timer, timer_label, attempt")


@pytest.fixture
def middle(transactional_db: None) -> Iterator[UUID]:
    """Store the timers, and return one in the midst of them."""
    close_pool()
    fill(COUNT)
    with connect() as connection:
        row = connection.execute(
            "SELECT id FROM timer WHERE due_at < now() - interval '5 hours'"
            " ORDER BY due_at DESC LIMIT 1"
        ).fetchone()
    assert row is not None
    yield row[0]
    close_pool()


NOW = datetime.now(UTC)
DAYS = TimerFilter(
    since=NOW - timedelta(days=2), until=NOW + timedelta(days=1)
)
BIG, SMALL = "big.example", "h7.example"
MAIL, USER = ("kind", "mail"), ("user", "4711")

LISTS: dict[str, TimerFilter] = {
    "all": TimerFilter(),
    **{f"status {each}": TimerFilter([each]) for each in STATUSES},
    "statuses": TimerFilter(["failed", "missed"]),
    "from and to": DAYS,
    "status, from and to": replace(DAYS, statuses=["delivered"]),
    "scheduled, from and to": replace(DAYS, statuses=["scheduled"]),
    "host": TimerFilter(host=BIG),
    "small host": TimerFilter(host=SMALL),
    "no such host": TimerFilter(host="nobody.example"),
    "host and port": TimerFilter(host=BIG, port=80),
    "status and host": TimerFilter(["failed"], BIG),
    "status and small host": TimerFilter(["scheduled"], SMALL),
    "host, from and to": replace(DAYS, host=BIG),
    "label": TimerFilter(labels=[MAIL]),
    "rare label": TimerFilter(labels=[USER]),
    "label, from and to": replace(DAYS, labels=[MAIL]),
    "labels": TimerFilter(labels=[MAIL, USER]),
    "labels, rare first": TimerFilter(labels=[USER, MAIL]),
    **{
        f"{each} and label": TimerFilter([each], labels=[MAIL])
        for each in STATUSES
    },
    **{
        f"{each} and rare label": TimerFilter([each], labels=[USER])
        for each in ("scheduled", "delivered", "failed", "firing")
    },
    "key": TimerFilter(key="order-4711"),
    "key of many": TimerFilter(key="job"),
    "status and key": TimerFilter(["failed"], key="job"),
    "beginning of a key": TimerFilter(key="order-47", key_begins=True),
    "status and beginning": TimerFilter(
        ["delivered"], key="order-47", key_begins=True
    ),
}


def plan(of: TimerFilter, account: int) -> dict[str, Any]:
    """Run a list, and return what Postgres did and how long it took."""
    with list_pool().connection() as connection:
        query, values = finding.statement(
            connection, account, of, LIMIT + 1
        )
        return explained(connection, query, values)


def explained(
    connection: Connection, query: str, values: dict[str, Any]
) -> dict[str, Any]:
    """Run a query, and return what Postgres did and how long it took."""
    row = connection.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", values
    ).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0][0]
    return found


def nodes(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return a plan's nodes, those within others as well."""
    yield of
    for inner in of.get("Plans", ()):
        yield from nodes(inner)


def scans(of: dict[str, Any]) -> tuple[set[str], float]:
    """Return a plan's kinds of scans, and how many rows they read."""
    found = [n for n in nodes(of["Plan"]) if "Scan" in n["Node Type"]]
    read = sum(
        (n["Actual Rows"] + n.get("Rows Removed by Filter", 0)
         + n.get("Rows Removed by Index Recheck", 0)) * n["Actual Loops"]
        for n in found if n["Node Type"] != "Subquery Scan"
    )
    return {n["Node Type"] for n in found}, read


def ahead_values(account: int) -> dict[str, Any]:
    return {
        "account": account, "now": NOW, "minute": NOW, "few": ahead.FEW,
        "next": ahead.NEXT, "host": BIG, "since": NOW,
        "until": NOW + timedelta(seconds=1), "most": ahead.MOST,
        "hosts": [BIG, SMALL], "latest": ahead.LATEST,
    }


@pytest.mark.parametrize(
    ("account", "next_ones"),
    [(OWNER, overview.NEXT), (FEW, overview.NEXT_OF_FEW)],
    ids=["many", "few"],
)
def test_a_list_reads_no_more_than_its_page(
    middle: UUID, account: int, next_ones: str
) -> None:
    wrong: list[tuple[object, ...]] = []
    for name, of in LISTS.items():
        for page in (
            of,
            replace(of, latest_first=True),
            replace(of, after=middle),
            replace(of, after=middle, latest_first=True),
        ):
            kinds, read = scans(plan(page, account))
            if any("Seq" in kind for kind in kinds) or read > MOST_READ:
                wrong.append((name, page, kinds, read))
    # And to hop through an index reads one entry for a value, or two: the
    # nodes of what recurs are counted each time.
    hops = (
        *suggesting.HOSTS, *suggesting.KEYS, *suggesting.NAMES,
        *suggesting.VALUES,
    )
    with list_pool().connection() as connection:
        for query in hops:
            values = {
                "account": account, "beginning": "", "name": "user",
                "most": suggesting.MOST,
            }
            kinds, read = scans(explained(connection, query, values))
            if any("Seq" in kind for kind in kinds) or read > 200:
                wrong.append((query, values, kinds, read))
    # And what the page Ahead reads beside its sample is bounded. One that
    # has a third of all timers may be counted in any order.
    with list_pool().connection() as connection:
        for query, most in (
            (ahead.COUNT_OWN, ahead.FEW), (ahead.NEAR, 3 * ahead.NEXT),
            (ahead.IN_SECOND, 100), (ahead.DURATIONS, 200),
        ):
            kinds, read = scans(
                explained(connection, query, ahead_values(account))
            )
            if query == ahead.COUNT_OWN and account == OWNER:
                kinds = set()
            if any("Seq" in kind for kind in kinds) or read > 3 * most:
                wrong.append((query, kinds, read))
    # And what the page Now reads costs as much as it shows and counts. Of the
    # 2,000 that come within a minute, Postgres may read all to count 1,000.
    with list_pool().connection() as connection:
        for query in (next_ones, overview.COUNTS):
            values = {
                "account": account, "limit": 20, "most": overview.MOST,
            }
            kinds, read = scans(explained(connection, query, values))
            if any("Seq" in kind for kind in kinds) or read > 2 * MOST_READ:
                wrong.append((query, values, kinds, read))
    assert not wrong


@pytest.mark.usefixtures("transactional_db")
def test_what_has_ended_is_not_read_to_count_what_is_overdue() -> None:
    """Postgres knows of columns by themselves: it expects many overdue."""
    close_pool()
    columns = "host = 'a.example'; due_at = now(); next_at = "
    fill_rows(60_000, f"{columns}now() + n * interval '1 h'")
    fill_rows(30_000, f"{columns}now() - n * interval '1 h';"
                      " fired_at = now(); outcome = 'delivered'")
    with connect() as connection:
        connection.execute("VACUUM ANALYZE timer")
    with list_pool().connection() as connection:
        values = {"account": OWNER, "most": overview.MOST}
        kinds, read = scans(explained(connection, overview.COUNTS, values))
    assert not any("Seq" in kind for kind in kinds)
    assert read < 100
    close_pool()


@pytest.mark.usefixtures("transactional_db")
def test_what_is_scheduled_of_a_label_is_found_beyond_what_is_not() -> None:
    """Of a label's timers most have ended; of those that wait few have it."""
    close_pool()
    ended = "; fired_at = now(); outcome = 'delivered'"
    for count, host, at, more in (
        (30_000, "a", "now() + n * interval '1 s'", ""),
        (200, "b", "now() + interval '1 day' - n * interval '1 s'", ""),
        (20_000, "b", "now() - n * interval '1 s'", ended),
    ):
        fill_rows(
            count,
            f"host = '{host}.example'; due_at = {at}; next_at = {at}{more}",
        )
    with connect() as connection:
        connection.execute(
            "INSERT INTO timer_label (account_id, name, value, due_at,"
            " timer_id) SELECT account_id, 'user', '17', due_at, id"
            " FROM timer WHERE host = 'b.example'"
        )
        connection.execute("VACUUM ANALYZE timer, timer_label")
    of = TimerFilter(["scheduled"], labels=[("user", "17")])
    for page in of, replace(of, latest_first=True):
        kinds, read = scans(plan(page, OWNER))
        assert not any("Seq" in kind for kind in kinds)
        assert read < MOST_READ, page
    close_pool()


@pytest.mark.usefixtures("transactional_db")
def test_of_a_label_that_many_have_few_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def noted(connection: Connection, query: str, values: Any) -> int:
        tried.append(values.get("first", 0))
        return finding.MANY

    monkeypatch.setattr(finding, "_count", noted)
    of = TimerFilter(["failed"], labels=[MAIL])
    with list_pool().connection() as connection:
        for limit in (LIMIT, finding.MANY):
            finding.statement(connection, OWNER, of, limit)
    assert max(tried) == finding.MANY
    assert 10 * LIMIT in tried

"""Every hot statement finds its rows by an index, however many sleep."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection as django_connection

from apps.core.database import close_pool, pool
from apps.timers.models import Outcome
from apps.timers.storage import (
    by_key,
    changing,
    claiming,
    finding,
    looking,
    naming,
    queueing,
    recording,
    replaying,
    retention,
    taking_over,
)
from apps.timers.storage.claim_records import Claim, ClaimRequest, Mark, Report
from apps.timers.storage.records import (
    Change,
    Definition,
    NamedTimer,
    NewTimer,
    TimerFilter,
)
from tests.support.accounts import OWNER
from tests.support.rows import (
    attempt,
    change,
    claimed,
    fill,
    new_timers,
    postponement,
    report,
)
from tests.support.timers import execute

#: psycopg prepares a statement when it has seen it five times, and Postgres
#: may then go over to a generic plan after five more.
CALLS = 12
#: What the dispatcher asks for at once.
BATCH = 500


@pytest.fixture(autouse=True)
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every statement counted on the connection that is asked."""
    monkeypatch.setattr(finding, "list_pool", pool)
    monkeypatch.setattr(queueing, "connect", lambda: pool().connection())


@pytest.fixture
def many(transactional_db: None) -> Iterator[None]:
    """Store 170,000 timers: most asleep, some ended, due or lost."""
    close_pool()
    # The migrations scanned the table, and their connection may yet say so.
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    # Nobody then waits for a first connection, so that there is no second
    # one, whose figures would be told later.
    pool().wait()
    asleep = "now() + n * interval '1 hour' + interval '1 day'"
    for count, columns in (
        (150_000, f"due_at = {asleep}; next_at = {asleep}"),
        (9_000, "due_at = now(); next_at = now(); fired_at = now();"
                " outcome = 'delivered'; queued_at = now()"),
        (500, "due_at = now(); next_at = now() - interval '1 day'"),
        (500, "due_at = now(); next_at = now() - interval '1 day';"
              " queued_at = now() - interval '1 day'"),
        (10_000, "due_at = now() - n * interval '1 s'; next_at = now();"
                 " fired_at = now(); outcome = 'failed'"),
    ):
        fill(count, columns)
    with pool().connection() as connection:
        connection.execute("ANALYZE timer")
    yield
    close_pool()


#: A statement may read so many rows: all that are due or lost, not those
#: that sleep.
MOST_READ = 5_000


def scans() -> tuple[dict[str, int], int]:
    """Return how often each index and the table were scanned; rows read."""
    with pool().connection() as connection:
        # What a connection has counted is known to others at its leisure.
        connection.execute("SELECT pg_stat_force_next_flush()")
        rows = connection.execute(
            "SELECT indexrelname, idx_scan, idx_tup_read"
            " FROM pg_stat_user_indexes WHERE relname = 'timer'"
            " UNION ALL SELECT relname, seq_scan, seq_tup_read"
            " FROM pg_stat_user_tables WHERE relname = 'timer'"
        ).fetchall()
    return {name: count for name, count, _ in rows}, sum(r[2] for r in rows)


def new() -> NewTimer:
    return NewTimer(
        uuid4(), OWNER, Definition("http://x/", labels={"a": "b"}),
        timedelta(1), queued=False,
    )


def statements(
    claim: Claim, ids: list[UUID]
) -> dict[str, tuple[Callable[[], object], set[str]]]:
    """Return each statement, and the indexes that serve it."""
    mark = Mark(claim.id, claim.token, claim.due_at)
    failed = Report(
        claim.id, claim.token, Outcome.FAILED, None, attempt(claim, 500)
    )
    ahead = timedelta(seconds=2)
    hour_ago = claim.due_at - timedelta(hours=1)
    gave_up = TimerFilter(["failed", "missed"], since=hour_ago)
    unqueued, queued = {"timer_unqueued"}, {"timer_queued"}
    pkey = {"timer_pkey"}
    # A page's timers are read by their ids.
    by_status = {"timer_account_status"} | pkey
    by_host = {"timer_account_host"} | pkey
    return {
        "get": (lambda: looking.get(OWNER, ids[0]), pkey),
        "claim": (
            lambda: claiming.claim([ClaimRequest(i, uuid4()) for i in ids]),
            pkey,
        ),
        "mark": (lambda: claiming.mark_sent([mark]), pkey),
        "record": (lambda: recording.record([failed]), pkey),
        "unqueue": (lambda: queueing.unqueue(ids[:1]), pkey),
        "due": (
            lambda: [queueing.due(overdue=o, ahead=ahead, limit=BATCH)
                     for o in (True, False)],
            unqueued,
        ),
        # An update finds the rows that were chosen by their ids.
        "promote": (
            lambda: [queueing.promote(overdue=o, limit=BATCH)
                     for o in (True, False)],
            unqueued | pkey,
        ),
        "lost": (
            lambda: [queueing.lost(idle=idle, limit=BATCH)
                     for idle in (True, False)],
            queued | pkey,
        ),
        "failed": (
            lambda: finding.find(OWNER, gave_up, limit=BATCH), by_status,
        ),
        "failed, by host": (
            lambda: finding.find(
                OWNER,
                replace(gave_up, host="a.example"), limit=9
            ),
            {"timer_account_host"},
        ),
        "failed, by host and port": (
            lambda: finding.find(
                OWNER,
                replace(gave_up, host="a.example", port=80, after=claim.id),
                limit=9,
            ),
            by_host,
        ),
        "failed, the next page": (
            lambda: finding.find(
                OWNER, replace(gave_up, after=claim.id), limit=9
            ),
            by_status,
        ),
        "replay": (lambda: replaying.replay(OWNER, ids), pkey),
        "change": (
            lambda: changing.change([
                Change(i, OWNER, "moved", delay=timedelta(0)) for i in ids
            ]),
            pkey,
        ),
        "create by key": (
            lambda: naming.create([NamedTimer(new(), f"key {uuid4()}")]),
            pkey,
        ),
        "put by key": (
            lambda: by_key.put([
                by_key.Put(NamedTimer(new(), key, takes_key=True), "replace")
                for key in ("a", "b")
            ]),
            pkey,
        ),
        "look by key": (lambda: by_key.holder(OWNER, "a"), pkey),
        "take back": (lambda: queueing.take_back(ids[:1]), pkey),
        "cancel": (lambda: changing.cancel(OWNER, claim.id), pkey),
        "count": (queueing.count_near, unqueued | queued),
        "take over": (
            lambda: taking_over.take_over(limit=BATCH), {"timer_leased"} | pkey
        ),
        "take over, answered": (
            lambda: taking_over.answered(limit=BATCH), {"timer_leased"}
        ),
        "find what ended long ago": (
            lambda: list(retention.remove(
                Outcome.FAILED, timedelta(seconds=9_000)
            )),
            {"timer_account_status"},
        ),
        "remove": (
            lambda: retention._remove(timedelta(seconds=9_000), ids), pkey
        ),
        "free what is stuck": (
            taking_over.free_stuck,
            unqueued | queued | {"timer_leased", "timer_unleased"},
        ),
    }


@pytest.mark.usefixtures("many")
def test_every_statement_uses_its_index_and_never_the_whole_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given 170,000 timers, hundreds of which are due, queued or lost
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    ids = new_timers(20, -1)
    claim = claimed(ids.pop())
    for timer_id in new_timers(200, -1):
        claimed(timer_id)
        change(timer_id, "leased_until = now() - interval '1 s'")
    found = {}
    expected = {}
    for name, (run, indexes) in statements(claim, ids).items():
        # When a statement runs often enough to be planned once for all
        before, had_read = scans()
        for _ in range(CALLS):
            run()
        after, has_read = scans()

        # Then only its indexes were scanned, and not to their ends
        assert has_read - had_read < CALLS * MOST_READ, name
        found[name] = {key for key in after if after[key] > before[key]}
        expected[name] = indexes
    assert found == expected


@pytest.fixture
def unwatched(transactional_db: None) -> Iterator[None]:
    """Keep Postgres from looking at the timers by itself."""
    execute("ALTER TABLE timer SET (autovacuum_enabled = off)")
    yield
    execute("ALTER TABLE timer RESET (autovacuum_enabled)")


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("seen", ["never", "while all are called"])
def test_a_table_that_was_empty_a_minute_ago_is_not_read_whole(
    monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    """An index that was empty when Postgres looked counts as empty since."""
    # Given statements that have run often on a table that was just made
    close_pool()
    pool().wait()
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    ids = new_timers(20, -1)
    claim = claimed(ids.pop())
    known = statements(claim, ids)
    for name, (run, _) in known.items():
        for _ in range(CALLS):
            run()
        if name == "claim" and seen == "while all are called":
            execute("ANALYZE timer")

    # When timers are stored, and Postgres has yet to take notice
    tomorrow = "now() + interval '1 day'"
    fill(20_000, f"due_at = {tomorrow}; next_at = {tomorrow}")
    fill(20_000, "due_at = now(); next_at = now(); fired_at = now();"
                 " outcome = 'delivered'")

    # Then the same statements still read what they are about
    most = {}
    for name, (run, _) in known.items():
        _, had_read = scans()
        run()
        most[name] = scans()[1] - had_read
    if seen == "while all are called":
        # Its own index looks as empty as one that has all rows. It may read
        # that one until Postgres looks again.
        del most["free what is stuck"]
    assert max(most.values()) < 1_000, most
    close_pool()


@pytest.mark.usefixtures("many")
def test_what_a_worker_writes_is_planned_once_and_not_for_each_group() -> None:
    """To plan takes longer than to write."""
    close_pool()  # a session keeps no plan if the table was small at first
    pool().wait()
    for _ in range(CALLS):
        one, *others = (claimed(timer_id) for timer_id in new_timers(3, -1))
        claiming.renew([ClaimRequest(one.id, one.token)])
        claiming.mark_sent([Mark(one.id, one.token, one.due_at)])
        recording.postpone([postponement(one)])
        recording.record([report(other) for other in others])
    with pool().connection() as connection:
        rows = connection.execute(
            "SELECT custom_plans, generic_plans > 0"
            " FROM pg_prepared_statements"
            " WHERE statement LIKE '%FOR UPDATE OF timer%'"
        ).fetchall()
    assert rows == [(5, True)] * 5

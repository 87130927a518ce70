"""`host=` finds a host however it is written, and reads no other's rows."""

import importlib
from uuid import UUID

import pytest
from django.db import connection as django_connection

from apps.core.database import pool
from apps.timers.models import Outcome
from apps.timers.storage import finding
from apps.timers.storage.records import TimerFilter
from tests.support.accounts import OWNER
from tests.support.api import look, send
from tests.support.rows import change, fill, given_up, new_timer, row

pytestmark = pytest.mark.usefixtures("db_pool")

#: One host: composed, decomposed, in capitals, with full-width and
#: ideographic dots, and in ASCII.
SPELLINGS = (
    "bücher.example",
    "bu\u0308cher.example",
    "BÜCHER.EXAMPLE",
    "bücher\uff0eexample",
    "bücher\u3002example",
    "xn--bcher-kva.example",
    "XN--BCHER-KVA.Example",
)


def listed(host: str) -> list[str]:
    answer = look("/timers", host=host)
    assert answer.status_code == 200, answer.content
    return [timer["id"] for timer in answer.json()["timers"]]


def test_every_spelling_of_a_host_finds_every_spelling() -> None:
    # Given timers that gave up, one for each spelling, with a port or none
    urls = [f"http://{host}{port}/" for host in SPELLINGS
            for port in ("", ":8080")]
    timers = [str(given_up(url=url).id) for url in urls]
    given_up(url="http://buecher.example/")

    # When one is asked for by any of them, Then all are there
    for host in SPELLINGS:
        assert set(listed(host)) == set(timers), host
        assert set(listed(f"{host}:8080")) == set(timers[1::2]), host
        assert set(listed(f"{host}:80")) == set(timers[::2]), host

    # And a replay by that host is one of all of them
    answer = send("/timers/replay", {"host": "BÜCHER\uff0eexample"})
    assert answer.json()["replayed"] == len(timers)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://BÜCHER.example:80/", "xn--bcher-kva.example"),
        ("https://Example.COM", "example.com"),
        ("http://example.com.:81/", "example.com."),
        ("http://[0:0::1]:8080/", "::1"),
        ("http://127.0.0.1?q", "127.0.0.1"),
        ("nonsense", None),
        ("http://a b/", None),
    ],
)
def test_a_timer_keeps_its_host(url: str, host: str | None) -> None:
    assert row(new_timer(30, url=url))["host"] == host


def rows_read() -> tuple[int, set[str]]:
    """Return how many rows were read by now, and by which indexes."""
    with pool().connection() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        rows = connection.execute(
            "SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes"
            " WHERE relname = 'timer'"
            " UNION ALL SELECT relname, seq_tup_read"
            " FROM pg_stat_user_tables WHERE relname = 'timer'"
        ).fetchall()
    return sum(r[1] for r in rows), {name for name, read in rows if read}


def test_a_list_by_host_reads_the_rows_of_that_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given lists on the connection that is asked for its figures, and no
    # figures that are still to come, as in test_store_plans.py
    monkeypatch.setattr(finding, "list_pool", pool)
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    pool().wait()

    # Given 20,000 timers that gave up: half of one host, half of a hundred
    fill(
        20_000,
        "due_at = now() - n * interval '1 s'; next_at = now();"
        " fired_at = now(); outcome = 'failed';"
        " host = CASE WHEN n % 2 = 0 THEN 'big.example'"
        " ELSE 'h' || n / 2 % 100 || '.example' END",
    )
    with pool().connection() as connection:
        connection.execute("ANALYZE timer")
    found = {}
    for host in ("big.example", "h7.example", "nobody.example"):
        of = TimerFilter(["failed", "missed"], host)
        read = []
        for _ in range(12):  # also by a plan made once for all
            before, _ = rows_read()
            found[host] = len(finding.find(OWNER, of, limit=100))
            read.append(rows_read()[0] - before)
        # Then a page is found and read, or what a small host has. What the
        # planner reads for an estimate counts as well, once.
        assert sorted(read)[-2] <= 300, (host, read)
    assert found == {
        "big.example": 100, "h7.example": 100, "nobody.example": 0,
    }
    assert "timer_account_host" in rows_read()[1]


def test_rows_of_an_older_version_get_their_host_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given timers of before there was the column, and a URL that is none
    migration = importlib.import_module(
        "apps.timers.migrations.0006_host"
    )
    url = "http://BÜCHER.example/"
    gave_up = [given_up(outcome, url=url).id for outcome in
               (Outcome.FAILED, Outcome.UNKNOWN, Outcome.MISSED)]
    waits = [new_timer(30, url=url) for _ in range(5)]
    delivered = given_up(Outcome.DELIVERED, url=url).id
    broken = given_up(url="nonsense").id
    for timer_id in (*gave_up, *waits, delivered):
        change(timer_id, "host = NULL")

    # When the migration fills them, three at a time
    monkeypatch.setattr(migration, "BATCH", 3)
    with django_connection.schema_editor(atomic=False) as editor:
        migration.fill_hosts(None, editor)

    # Then all that gave up, or may, are found by it
    def host(timer_id: UUID) -> str | None:
        found: str | None = row(timer_id)["host"]
        return found

    assert {host(each) for each in (*gave_up, *waits)} == {
        "xn--bcher-kva.example"
    }
    assert (host(delivered), host(broken)) == (None, None)

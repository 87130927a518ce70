"""Migrations of a table that is in use: rows that older versions wrote."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from django.core.management import call_command

from apps.core.database import connection_arguments, pool
from apps.timers.models import Outcome
from apps.timers.storage import (
    finding,
    looking,
    recording,
    replaying,
    taking_over,
)
from apps.timers.storage.claim_records import Claim
from apps.timers.storage.records import TimerFilter
from tests.support.accounts import OWNER
from tests.support.databases import scratch_database
from tests.support.rows import claimed, report
from tests.support.service import ROOT

pytestmark = pytest.mark.usefixtures("db_pool")

STATES = sorted(
    path.stem
    for path in (ROOT / "apps" / "timers" / "migrations").glob("0*.py")
)
URL = "http://127.0.0.1:9/path?query=1"
#: What every version has written of a timer that waits, one that is being
#: called, and ones that have ended.
KINDS = {
    "waits": "NULL, NULL, NULL, 0, NULL, NULL, NULL",
    "queued": "now(), NULL, NULL, 0, NULL, NULL, NULL",
    "called": "NULL, now(), now() - interval '1 h', 1, now(), NULL, NULL",
    "delivered": "NULL, now(), NULL, 1, now(), 'delivered', NULL",
    "failed": "NULL, now(), NULL, 1, NULL, 'failed', 'refused: nobody'",
    "unknown": "NULL, now(), NULL, 1, now(), 'unknown', 'unknown: died'",
}
INSERT = """
INSERT INTO timer (
    id, url, created_at, due_at, next_at, queued_at, fired_at, leased_until,
    claims, sent_at, outcome, error
) VALUES (gen_random_uuid(), %s, now(), now(), now(), {}) RETURNING id
"""
ATTEMPT = """
INSERT INTO attempt (timer_id, number, due_at, status_code, duration, answer)
VALUES (%s, 1, now(), 500, interval '12 ms', 'oops')
"""


@pytest.fixture
def rows() -> Iterator[dict[tuple[str, str], UUID]]:
    """Write rows at every state of the schema, up to that of today."""
    found = {}
    with scratch_database():
        for state in STATES:
            call_command("migrate", "timers", state, verbosity=0)
            with psycopg.connect(**connection_arguments()) as session:
                for kind, values in KINDS.items():
                    row = session.execute(
                        INSERT.format(values).encode(), [URL]
                    ).fetchone()
                    assert row is not None
                    found[state, kind] = row[0]
                    if state >= "0003" and kind == "failed":
                        session.execute(ATTEMPT, [row[0]])
        call_command("migrate", verbosity=0)
        yield found


def test_what_older_versions_wrote_goes_on(
    rows: dict[tuple[str, str], UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    for (state, kind), timer_id in rows.items():
        # Then each is there, as it was
        timer = looking.get(OWNER, timer_id)
        assert timer is not None, (state, kind)
        assert (timer.url, timer.method) == (URL, "POST")
        expected = Outcome(kind) if kind in set(Outcome) else None
        assert timer.outcome == expected, (state, kind)

        # …and goes on as one of today's
        if kind in ("waits", "queued"):
            claim = claimed(timer_id)
            assert isinstance(claim, Claim)
            assert recording.record([report(claim)]) == [True]
        if kind == "failed" and state >= "0003":
            (attempt,) = looking.attempts(OWNER, timer_id)
            assert (attempt.status_code, attempt.answer) == (500, b"oops")

    ended = dict(taking_over.take_over(limit=100))
    called = {rows[state, "called"] for state in STATES}
    assert ended == dict.fromkeys(called, Outcome.UNKNOWN)

    gave_up = {
        timer_id for (_, kind), timer_id in rows.items()
        if kind in ("failed", "unknown")
    }
    assert replaying.replay(OWNER, list(gave_up)) == gave_up
    for timer_id in gave_up:
        assert recording.record([report(claimed(timer_id))]) == [True]


def test_all_are_listed_and_those_of_each_status(
    rows: dict[tuple[str, str], UUID]
) -> None:
    listed = finding.find(OWNER, TimerFilter(), limit=1000)
    assert {timer.id for timer in listed} == set(rows.values())
    for kind, status in {
        "waits": "scheduled", "queued": "scheduled", "called": "firing",
        "delivered": "delivered", "failed": "failed", "unknown": "unknown",
    }.items():
        found = finding.find(OWNER, TimerFilter([status]), limit=1000)
        ids = {rows[state, kind] for state in STATES}
        assert ids <= {timer.id for timer in found}, kind


def test_the_dead_rows_of_a_large_table_are_not_left_lying(
    rows: dict[tuple[str, str], UUID],
) -> None:
    with pool().connection() as connection:
        found = connection.execute(
            "SELECT relname, reloptions FROM pg_class"
            " WHERE relname IN ('timer', 'attempt') ORDER BY 1"
        ).fetchall()
    option = "autovacuum_vacuum_scale_factor=0.01"
    assert found == [
        ("attempt", [option]), ("timer", [option, "fillfactor=80"])
    ]

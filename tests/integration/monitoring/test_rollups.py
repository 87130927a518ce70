"""Roll-ups say what SQL over timers and attempts says, whatever happened."""

import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from uuid import uuid4

import pytest

from apps.core.database import connect, pool
from apps.core.outages import TROUBLES
from apps.monitoring.rollups import adding, names, process
from apps.timers.models import Outcome
from apps.timers.storage import (
    aside,
    changing,
    holding,
    reconciling,
    recording,
    replaying,
    taking_over,
)
from apps.timers.storage.claim_records import Claim, Postponement, Report
from apps.timers.storage.records import Attempt
from apps.webhooks.results import FailureKind
from tests.support.accounts import OWNER
from tests.support.rollups import add_all, check, raw, rolled
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    given_up,
    new_timer,
    new_timers,
    postponement,
    report,
    row,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")


def test_the_names_are_those_of_the_rest_of_the_code() -> None:
    assert tuple(Outcome.values) == names.OUTCOMES
    assert {kind.value for kind in FailureKind} < set(names.RESULTS)
    assert {5, 50, 1000} < set(names.BOUNDS)


def tried(
    claim: Claim, late_ms: float, took_ms: float, status: int | None,
    error: str | None = None,
) -> Attempt:
    sent_at = claim.next_at + timedelta(milliseconds=late_ms)
    return Attempt(
        claim.attempt, claim.next_at, sent_at if status else None, status,
        error, timedelta(milliseconds=took_ms), None,
    )


def test_calls_and_ends_of_all_kinds() -> None:
    # Given calls at two hosts: good and bad, in groups, and retries
    rng = random.Random(4)
    for host, outcome, status, error in (
        ("a.example", Outcome.DELIVERED, 200, None),
        ("a.example", Outcome.FAILED, 503, None),
        ("b.example", Outcome.FAILED, None, "refused: nobody there"),
        ("b.example", Outcome.FAILED, None, "something new: ?"),
    ):
        claims = [claimed(i) for i in new_timers(9, -1, url=f"http://{host}/")]
        recording.record([
            Report(
                each.id, each.token, outcome, error,
                tried(each, rng.choice([0.2, 5, 5.001, 49, 50, 1000, 9e7]),
                      rng.choice([1, 1000, 1000.001]), status, error),
            )
            for each in claims
        ])
    for _ in range(3):
        recording.postpone([postponement(claimed(new_timer(-1)))])

    # Then the roll-ups have them; what has no name is "other"
    add_all()
    expected = raw()
    other = expected.pop(("b.example", "result something new"))
    expected["b.example", "result other"] = other
    assert rolled("roll_up_host") == expected
    assert expected["127.0.0.1", "result refused"] == 3
    assert expected["a.example", "late 5"]


def test_ends_without_a_call_and_calls_without_an_end() -> None:
    # Given one that was missed, one that is deferred, cancelled ones
    claim = claimed(new_timer(-1))
    recording.record([
        Report(claim.id, claim.token, Outcome.MISSED, "max_lateness: x", None)
    ])
    claim = claimed(new_timer(-1))
    recording.postpone([
        Postponement(claim.id, claim.token, timedelta(1), "busy: x", None, 0,
                     None, 0)
    ])
    changing.cancel_many(OWNER, new_timers(3, 60))
    changing.cancel(OWNER, new_timer(60))

    # And one that is set aside, and one that may have been called
    aside.set_aside(new_timer(60), ValueError("?"))
    holding.hold("a test")
    new_timer(-5)
    assert reconciling.end(database_clock()) >= 1
    holding.release()

    add_all()
    check()
    ended = rolled("roll_up", "minutes = 1")
    assert ended["", "ended missed"] == 1
    assert ended["", "ended cancelled"] == 4
    assert ended["", "ended failed"] == 1
    assert ended["", "ended unknown"] >= 1


def dead(*, sent: bool) -> Claim:
    """Store a timer whose worker has died."""
    claim = claimed(new_timer(-1))
    sent_at = ", sent_at = clock_timestamp()" if sent else ""
    change(claim.id, f"leased_until = now() - interval '1 s'{sent_at}")
    return claim


def test_dead_workers_and_what_they_record_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    # Given claims that were taken over
    unsent, sent = dead(sent=False), dead(sent=True)
    aside_ = claimed(new_timer(-1))
    aside.set_aside(aside_.id, ValueError("?"), token=aside_.token)
    assert len(taking_over.take_over(limit=10)) == 2
    add_all()
    check()
    assert rolled("roll_up")["", "ended unknown"]

    # When their workers report after all, and repeat it
    for _ in range(3):
        done = recording.record([report(unsent), report(sent), report(aside_)])
        assert done == [False, True, True]

    # Then what was assumed is taken back
    add_all()
    check()
    found = rolled("roll_up", "minutes = 1")
    assert found["", "ended unknown"] == 0
    assert found["", "ended delivered"] == 2


def test_a_replay_counts_what_happens_next() -> None:
    claim = given_up()
    replaying.replay(OWNER, [claim.id])
    recording.record([report(claimed(claim.id))])

    add_all()
    found = rolled("roll_up", "minutes = 1")
    for what in "ended failed", "ended delivered", "result 2xx":
        assert found["", what] == 1
    assert found["", "result protocol"] == 1


def tally(values: str) -> None:
    """Write a tally by hand."""
    columns, _, given = values.partition(": ")
    with pool().connection() as connection:
        connection.execute(
            f"INSERT INTO tally (at, account_id{columns}) SELECT {given}"
        )


def test_minutes_and_hours_are_those_of_utc() -> None:
    for at in ("11:59:59.9", "12:00:00", "12:00:59.999", "12:01:00"):
        tally(f", status_code: '2026-03-01T{at}Z', 1, 200")
    add_all()
    with connect() as connection:
        found = connection.execute(
            "SELECT minutes, to_char(at AT TIME ZONE 'UTC', 'HH24:MI'),"
            " results[1] FROM roll_up ORDER BY 1, 2"
        ).fetchall()
    assert found == [
        (1, "11:59", 1), (1, "12:00", 2), (1, "12:01", 1),
        (60, "11:00", 1), (60, "12:00", 3),
    ]


def test_accounts_are_apart() -> None:
    tally(", status_code: now(), 1, 200")
    tally(", status_code: now(), 7, 500 FROM generate_series(1, 3)")
    add_all()
    assert rolled("roll_up", "account_id = 7 AND minutes = 1") == {
        ("", "result 5xx"): 3
    }


@pytest.mark.parametrize(
    "values",
    [
        ", host: now(), 1, repeat('x', 100000)",
        ", due_at, sent_at: now(), 1, '-infinity', 'infinity'",
        ", due_at, sent_at: now(), 1, '4713-01-01 BC', '294276-12-31'",
        ", due_at, sent_at: now(), 1, now(), now() - interval '1 h'",
        ", duration: now(), 1, interval '-100000 years'",
        ", outcome, failure: now(), 1, 'strange', 'strange'",
        ", status_code: now(), 1, -1",
    ],
)
def test_a_strange_tally_harms_no_other(values: str) -> None:
    tally(values)
    tally(", status_code: now(), 1, 200")
    assert add_all() == 2
    assert rolled("roll_up", "minutes = 1")["", "result 2xx"] == 1


def test_only_so_many_hosts_are_told_apart() -> None:
    tally(", host, status_code: now(), 1, 'busy.example', 200"
          " FROM generate_series(1, 5)")
    tally(", host, status_code: now(), 1, n || '.example', 200"
          " FROM generate_series(1, 300) AS n")
    add_all()
    hosts = rolled("roll_up_host")
    assert len(hosts) == adding.HOSTS
    assert hosts["busy.example", "result 2xx"] == 5
    assert rolled("roll_up", "minutes = 1") == {("", "result 2xx"): 305}


def test_many_may_add_at_the_same_time() -> None:
    tally(", status_code: now(), 1, 200 FROM generate_series(1, 12000)")
    added: list[int] = []
    numbers = count()

    def work() -> None:
        while next(numbers) < 40:
            added.append(adding.add())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) + add_all() == 12_000
    assert rolled("roll_up", "minutes = 1") == {("", "result 2xx"): 12_000}


def test_what_is_too_old_is_removed() -> None:
    for age in ("24 h", "26 h", "29 d", "31 d", "399 d", "401 d"):
        tally(f", host, status_code: now() - interval '{age}', 1, 'a', 200")
    tally(f", status_code: now() - interval '31 d', {2**31 - 1}, 200")
    add_all()

    removed = sum(adding.forget())

    assert removed == 5 + 3 + 1
    assert sum(adding.forget()) == 0
    assert rolled("roll_up_host")["a", "result 2xx"] == 1
    assert rolled("roll_up", "minutes = 1 AND account_id = 1") == {
        ("", "result 2xx"): 3
    }
    assert rolled("roll_up", "minutes = 60 AND account_id = 1") == {
        ("", "result 2xx"): 5
    }


def test_a_group_that_lost_a_claim_counts_the_others() -> None:
    mine, lost = claimed(new_timer(-1)), claimed(new_timer(-1))
    change(lost.id, f"claim_token = '{uuid4()}'")
    assert recording.record([report(lost), report(mine)]) == [False, True]
    add_all()
    check()
    assert rolled("roll_up", "minutes = 1")["", "ended delivered"] == 1


def test_an_attempt_that_is_there_already_harms_no_other() -> None:
    # Given a claim whose attempt somebody has written by hand
    strange, other = claimed(new_timer(-1)), claimed(new_timer(-1))
    with pool().connection() as connection:
        connection.execute(
            "INSERT INTO attempt (timer_id, number, due_at, status_code)"
            " VALUES (%s, 1, now(), 500)", [strange.id],
        )

    # When it is recorded with others, then both end as they were reported
    assert recording.record([report(strange), report(other)]) == [True, True]
    add_all()
    assert row(strange.id)["error"].startswith("invalid: duplicate key")
    assert row(other.id)["error"] is None
    found = rolled("roll_up", "minutes = 1")
    assert found["", "ended delivered"] == 2
    assert found["", "result 2xx"] == 1


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the thread of dispatchers, which waits for milliseconds only."""
    monkeypatch.setattr(process, "INTERVAL", 0.01)
    monkeypatch.setattr(process, "_FORGET", 0.0)
    TROUBLES.clear()
    rollups = process.RollUps()
    yield
    rollups.close()
    TROUBLES.clear()


@pytest.mark.usefixtures("thread")
def test_the_thread_goes_on_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given tallies that can't be added for some reason
    with monkeypatch.context() as patch:
        patch.setattr(adding, "ADD", "SELECT 1 / 0")
        tally(", status_code: now(), 1, 200 FROM generate_series(1, 6000)")
        eventually(lambda: "adding up" in "".join(TROUBLES.recent()))
        patch.setattr(
            adding, "ADD", "DO $$ BEGIN RAISE lock_not_available; END $$"
        )
        eventually(lambda: "lock_not_av" in "".join(TROUBLES.recent()))
        patch.setattr(adding, "ADD", "SELECT pg_sleep(9)")
        patch.setattr(
            adding, "_LOCK",
            "SELECT set_config('statement_timeout', '50', true) IS NOT NULL",
        )
        eventually(lambda: "timeout" in "".join(TROUBLES.recent()))

    # Then it tries again, and says that it works
    eventually(lambda: rolled("roll_up", "minutes = 1") == {
        ("", "result 2xx"): 6000
    })
    eventually(lambda: not TROUBLES.recent())


@pytest.mark.usefixtures("thread")
def test_the_thread_removes_what_is_old() -> None:
    tally(", host, status_code: now() - interval '26 h', 1, 'a', 200")
    eventually(lambda: rolled("roll_up"))
    eventually(lambda: not rolled("roll_up_host"))

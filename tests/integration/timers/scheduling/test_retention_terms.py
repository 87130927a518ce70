"""Retention: how long a timer is kept, and what goes with it."""

from datetime import timedelta

import pytest
from django.test import Client
from pytest_django import Settings

from apps.timers.models import GAVE_UP, Outcome
from apps.timers.storage import (
    by_key,
    changing,
    holding,
    naming,
    reconciling,
    recording,
    replaying,
    retention,
)
from apps.timers.storage.records import Change
from tests.support.accounts import OWNER
from tests.support.ended import (
    ENDED,
    YEAR,
    cancelled,
    counts,
    delivered,
    execute,
    kept,
    named,
    pass_days,
    removed,
)
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    given_up,
    new_timer,
    new_timers,
    postponement,
    report,
)

pytestmark = pytest.mark.usefixtures("db_pool")


# --- how long --------------------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_term(
    outcome: Outcome, settings: Settings
) -> None:
    # Given a timer that has ended
    settings.RETENTION_DAYS, settings.RETENTION_FAILED_DAYS = 3, 5
    timer_id = ENDED[outcome]()
    days = 5 if outcome in (Outcome.FAILED, Outcome.UNKNOWN) else 3

    # When a little less than its term is over, Then it is still there
    pass_days(days - 0.01)
    assert removed() == 0
    assert kept() == {timer_id}

    # When its term is over, Then nothing of it is left
    pass_days(0.02)
    assert removed() == 1
    assert not any(counts().values())
    for path in ("", "/attempts", "/explain"):
        assert Client().get(f"/timer/{timer_id}{path}").status_code == 404


def test_the_terms_are_30_and_90_days(settings: Settings) -> None:
    assert settings.RETENTION_DAYS == 30
    assert settings.RETENTION_FAILED_DAYS == 90


def test_0_days_are_for_ever(settings: Settings) -> None:
    settings.RETENTION_DAYS = settings.RETENTION_FAILED_DAYS = 0
    timers = {make() for make in ENDED.values()}
    pass_days(9_999)
    assert removed() == 0
    assert kept() == timers
    settings.RETENTION_DAYS = 1
    assert removed() == 3


def test_what_was_cancelled_by_an_old_version_goes_when_it_was_due() -> None:
    timer_id = cancelled()
    execute("DELETE FROM event")
    pass_days(365 + 29)
    assert removed() == 0
    pass_days(2)
    assert removed() == 1
    assert timer_id not in kept()


def test_what_was_cancelled_while_overdue_stays_as_long_as_others() -> None:
    timer_id = new_timer(-50 * 86_400)
    changing.cancel(OWNER, timer_id)
    pass_days(29)
    assert removed() == 0
    pass_days(2)
    assert removed() == 1


def test_what_could_not_be_claimed_counts_from_when_it_was_due() -> None:
    timer_id = new_timer(-1)
    change(timer_id, "outcome = 'odd'")
    pass_days(89)
    assert removed() == 0
    pass_days(2)
    assert removed() == 1


def test_what_was_reconciled_counts_from_then() -> None:
    timer_id = new_timer(-200 * 86_400)
    execute("UPDATE timer SET created_at = due_at - interval '1 day'")
    holding.hold("restored")
    reconciling.end(database_clock())
    holding.release()
    pass_days(89)
    assert removed() == 0
    assert kept() == {timer_id}
    pass_days(2)
    assert removed() == 1


# --- what stays ------------------------------------------------------------


def test_what_has_not_ended_stays_among_what_has() -> None:
    # Given timers that sleep, are overdue, tried again, or called
    stays = {new_timer(2 * YEAR), new_timer(-1)}
    retried, fires = new_timers(2, -1)
    recording.postpone([postponement(claimed(retried))])
    claimed(fires)
    stays |= {retried, fires}
    ended = [make() for make in ENDED.values() for _ in range(3)]

    # When a year has passed, Then only what has ended is removed
    pass_days(365)
    assert removed() == len(ended)
    assert kept() == stays


def test_nothing_is_removed_while_calls_are_held() -> None:
    timers = {make() for make in ENDED.values()}
    pass_days(9_999)
    holding.hold("restored")
    assert removed() == 0
    assert kept() == timers
    holding.release()
    assert removed() == len(timers)


@pytest.mark.parametrize("outcome", GAVE_UP)
def test_a_replayed_timer_counts_from_its_last_end(outcome: Outcome) -> None:
    # Given timers that were replayed long after they gave up
    waits, failed, done, dropped = (given_up(outcome).id for _ in range(4))
    pass_days(80 if outcome is not Outcome.MISSED else 20)
    assert replaying.replay(OWNER, [waits, failed, done, dropped])
    recording.record([report(claimed(failed), Outcome.FAILED)])
    recording.record([report(claimed(done))])
    assert changing.cancel(OWNER, dropped)

    # When the term of their first end is over, Then all stay
    pass_days(29)
    assert removed() == 0

    # When that of their last end is over, Then they go
    pass_days(2)
    assert removed() == 2
    pass_days(60)
    assert removed() == 1
    assert kept() == {waits}


def test_what_changed_since_it_was_found_stays() -> None:
    # Given timers that a walk could have found before they changed
    replayed = given_up(Outcome.FAILED).id
    pass_days(99)
    replaying.replay(OWNER, [replayed])
    ended, dropped = delivered(), cancelled()
    tried = given_up(Outcome.FAILED).id
    overdue = new_timer(-5 * 86_400)
    change(tried, "due_at = '2020-01-01'")
    change(dropped, "due_at = '2020-01-01', next_at = '2020-01-01'")

    # When they are to be removed, Then all stay
    found = [replayed, ended, tried, dropped, overdue]
    assert retention._remove(timedelta(days=1), found) == [0]
    assert kept() == set(found)


def test_all_that_is_kept_about_a_timer_goes_and_nothing_else() -> None:
    # Given a timer with a key, labels, changes and attempts
    old = named("order 17", user="17", kind="late")
    naming.create([old])
    timer_id = old.timer.id
    changing.change([
        Change(timer_id, OWNER, "moved", delay=timedelta(0)) for _ in range(3)
    ])
    recording.postpone([postponement(claimed(timer_id))])
    recording.record([report(claimed(timer_id))])
    assert counts() == {
        "timer": 1, "attempt": 2, "event": 3, "timer_label": 2,
        "timer_key": 1,
    }
    pass_days(31)

    # And one like it that sleeps, and one that ended under another's key
    other = named("order 18", user="17", kind="late")
    naming.create([other])
    changing.change([
        Change(other.timer.id, OWNER, "moved", delay=timedelta(1))
    ])
    before, after = (named("order 19", user="18") for _ in range(2))
    for each in (before, after):
        by_key.put([by_key.Put(each, "replace")])
        if each is before:
            recording.record([report(claimed(before.timer.id))])
            change(before.timer.id, "due_at = '2020-01-01',"
                   " fired_at = '2020-01-01'")
            execute("UPDATE timer_label SET due_at = '2020-01-01'"
                    " WHERE timer_id = %s", before.timer.id)

    # When its term is over, Then what is another's stays
    assert removed() == 2
    assert kept() == {other.timer.id, after.timer.id}
    assert counts() == {
        "timer": 2, "attempt": 0, "event": 1, "timer_label": 3,
        "timer_key": 2,
    }
    assert by_key.holder(OWNER, "order 19") == after.timer.id
    assert by_key.holder(OWNER, "order 17") is None


def test_keys_of_requests_are_kept_for_a_day(settings: Settings) -> None:
    settings.RETENTION_DAYS = settings.RETENTION_FAILED_DAYS = 0
    execute("INSERT INTO request_key SELECT n::text, '', gen_random_uuid(), 0,"
            " now() - n * interval '1 h' FROM generate_series(20, 30) AS n")
    execute("INSERT INTO request_chunk SELECT n::text, 0, '', '',"
            " now() - n * interval '1 h' FROM generate_series(20, 30) AS n")
    assert removed() == 0
    for table in ("request_key", "request_chunk"):
        left = execute(f"SELECT key FROM {table} ORDER BY key")
        assert [key for (key,) in left] == ["20", "21", "22", "23", "24"]

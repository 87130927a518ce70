"""After a restore: what may have been called since the backup."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from apps.core.database import pool
from apps.timers.explain.words import moment
from apps.timers.storage import aside, holding, reconciling, replaying
from apps.webhooks.retry import RetryPolicy
from tests.support.accounts import OWNER
from tests.support.explained import happened, summary
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    new_timer,
    new_timers,
    row,
)
from tests.support.timers import execute

pytestmark = pytest.mark.usefixtures("db_pool")

RETRY = RetryPolicy(3, 1, 60, unanswered=False)
DEAD = "leased_until = now() - interval '1 s'"
LONG_AGO = "created_at = created_at - interval '1 day'"


def restored(seconds: float = -10, **options: Any) -> UUID:
    """Return a timer that was set a day ago."""
    timer_id = new_timer(seconds, **options)
    change(timer_id, LONG_AGO)
    return timer_id


def held_by_the_dead(more: str = DEAD, **options: Any) -> UUID:
    timer_id = claimed(restored(**options)).id
    change(timer_id, more)
    return timer_id


def queued() -> UUID:
    return restored(queued=True)


def retried() -> UUID:
    timer_id = restored(retry=RETRY)
    change(timer_id, "retries = 1, attempts = 1, sent_at = due_at")
    return timer_id


#: What there may be in a restored database, and whether it may have been
#: called since the backup.
KINDS: dict[str, tuple[Callable[[], UUID], bool]] = {
    "waits": (restored, True),
    "waits, queued": (queued, True),
    "is to be retried": (retried, True),
    "was claimed": (held_by_the_dead, True),
    "was sent": (
        lambda: held_by_the_dead(f"{DEAD}, sent_at = now()"), True
    ),
    "was claimed, has no lease": (
        lambda: held_by_the_dead("leased_until = NULL"), True
    ),
    "was answered 500, is to be retried": (
        lambda: held_by_the_dead(f"{DEAD}, answered = 500", retry=RETRY), True
    ),
    # It ends as the answer says: see `taking_over`.
    "was answered 500": (
        lambda: held_by_the_dead(f"{DEAD}, answered = 500"), False
    ),
    "was answered 200": (
        lambda: held_by_the_dead(f"{DEAD}, answered = 200", retry=RETRY),
        False,
    ),
    # Its time is after that moment.
    "due later": (lambda: restored(-1), False),
    "set later": (lambda: new_timer(-10), False),
    "ends already": (
        lambda: held_by_the_dead("outcome = 'delivered', leased_until = NULL"),
        False,
    ),
    # Its creator wants it to be called rather twice than never.
    "at least once": (lambda: restored(at_least_once=True), False),
    "at least once, was claimed": (
        lambda: held_by_the_dead(at_least_once=True), False
    ),
}


@pytest.fixture
def before() -> datetime:
    """Return a moment 5 s ago."""
    return database_clock() - timedelta(seconds=5)


@pytest.fixture
def held() -> None:
    holding.hold(None)


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_have_been_called_ends_as_unknown(
    before: datetime, kind: str
) -> None:
    make, is_ended = KINDS[kind]
    timer_id = make()
    found = row(timer_id)
    holding.hold(None)
    assert reconciling.count(before).to_end == is_ended
    assert reconciling.end(before) == is_ended
    assert reconciling.count(before).to_end == 0
    if not is_ended:
        assert row(timer_id) == found
        return
    ended = row(timer_id)
    assert ended["outcome"] == "unknown"
    assert ended["leased_until"] is ended["queued_at"] is None
    assert ended["claim_token"] == found["claim_token"]


def test_nothing_is_ended_without_a_hold(before: datetime) -> None:
    timer_id = restored()
    assert reconciling.end(before) == 0
    assert row(timer_id)["outcome"] is None


@pytest.mark.usefixtures("held")
def test_it_counts_first_and_says_when_they_were_due(before: datetime) -> None:
    first, *_, last = [restored(-seconds) for seconds in (90, 60, 30)]
    restored(-40, at_least_once=True)
    found = reconciling.count(before)
    assert (found.to_end, found.to_call, found.under_way) == (3, 1, 0)
    assert found.first_due == row(first)["due_at"]
    assert found.last_due == row(last)["due_at"]


@pytest.mark.usefixtures("held")
def test_more_than_a_batch_is_ended(before: datetime) -> None:
    new_timers(1_100, -10)
    execute(f"UPDATE timer SET {LONG_AGO}")
    assert reconciling.end(before) == 1_100


@pytest.mark.usefixtures("held")
def test_it_can_be_explained_and_replayed(before: datetime) -> None:
    timer_id = restored()
    reconciling.end(before)
    assert summary(timer_id) == (
        "Nobody knows what came of it. No answer was recorded: it may have"
        " been called after the backup from which the database was restored."
        " The receiver may have acted on it, or not. It is not sent again. It"
        " can be replayed."
    )
    assert happened(timer_id)[-1] == (
        "reconciled",
        "After a restore the operator ended it: it may have been called since"
        " the backup.",
    )
    assert replaying.replay_one(OWNER, timer_id)


@pytest.fixture
def unwritable(clean_rows: None) -> Iterator[UUID]:
    """Return a timer whose row can't be changed."""
    timer_id = restored()
    with pool().connection() as connection:
        connection.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF new.id = '{timer_id}' THEN RAISE 'not this one'; END IF;
            RETURN new;
        END $$;
        """)
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON timer FOR EACH ROW"
            " EXECUTE FUNCTION refuse()"
        )
    yield timer_id
    with pool().connection() as connection:
        connection.execute("DROP FUNCTION refuse CASCADE")


@pytest.mark.usefixtures("held")
def test_a_row_that_cannot_be_written_costs_only_itself(
    before: datetime, unwritable: UUID
) -> None:
    others = [restored() for _ in range(5)]
    assert reconciling.end(before) == 5
    assert {row(each)["outcome"] for each in others} == {"unknown"}
    assert aside.skipped.ids() == [unwritable]
    aside.skipped.clear()
    with pytest.raises(CommandError, match=r"^1 could not be ended"):
        reconcile(before, "--yes")


# --- the command -----------------------------------------------------------


def reconcile(before: datetime | str, *options: str) -> str:
    output = StringIO()
    at = before if isinstance(before, str) else moment(before)
    call_command(
        "reconcile", "--fired-before", at, *options, stdout=output
    )
    return output.getvalue()


def test_the_command_only_counts_unless_it_is_told_to_end(
    before: datetime,
) -> None:
    # Given timers that may have been called, one of which may be again
    ids = [restored(-seconds) for seconds in (10, 20)]
    restored(-15, at_least_once=True)

    # When it is run without a hold, Then it says what to do
    with pytest.raises(CommandError, match=r"not held.*`manage.py hold`"):
        reconcile(before, "--yes")

    # When it is run without --yes, Then it counts
    holding.hold(None)
    count = (
        f"Due before {moment(before)}, and not ended: 2 timers, which end as"
        " unknown and are not called; 1 that ask for at_least_once, which are"
        " called (again) after the hold. The first was due at"
        f" {moment(row(ids[1])['due_at'])}, the last at"
        f" {moment(row(ids[0])['due_at'])}.\n"
    )
    assert reconcile(before) == (
        f"{count}Nothing was changed. Add --yes to end them.\n"
    )
    assert {row(each)["outcome"] for each in ids} == {None}

    # When it is run with it, Then it ends them
    assert reconcile(before, "--yes") == (
        f"{count}Ended as unknown: 2. GET /timers?status=unknown lists them,"
        " and each can be replayed.\n"
    )
    assert {row(each)["outcome"] for each in ids} == {"unknown"}
    assert "not ended: 0 timers" in reconcile(before, "--yes")


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("tomorrow", "--fired-before must be a date"),
        ("2026-12-24T18:00:00", "--fired-before must end with an offset"),
        ("2999-01-01T00:00:00Z", "--fired-before is in the future"),
    ],
)
def test_the_moment_must_be_one_of_the_past(at: str, says: str) -> None:
    timer_id = restored()
    with pytest.raises(CommandError, match=f"^{says}"):
        reconcile(at, "--yes")
    assert row(timer_id)["outcome"] is None


def test_a_claim_that_holds_is_waited_for(before: datetime) -> None:
    restored()
    claimed(restored())
    holding.hold(None)
    with pytest.raises(CommandError, match=r"^1 of them are claimed"):
        reconcile(before, "--yes")
    assert reconciling.count(before).to_end == 1

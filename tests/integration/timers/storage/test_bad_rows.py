"""Rows that can't be used: each costs only itself, and ends with a reason."""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from apps.core.database import pool
from apps.core.outages import TROUBLES
from apps.timers import services
from apps.timers.models import Outcome
from apps.timers.storage import (
    aside,
    claiming,
    finding,
    looking,
    queueing,
    recording,
    replaying,
    taking_over,
)
from apps.timers.storage.claim_records import Claim, ClaimRequest, Mark
from apps.timers.storage.records import TimerFilter
from tests.support.accounts import AUTHOR, OWNER
from tests.support.poison import POISONS, seal
from tests.support.rows import (
    attempts,
    change,
    claimed,
    given_up,
    new_timer,
    new_timers,
    postponement,
    report,
    row,
)

pytestmark = pytest.mark.usefixtures("clean_rows")

#: All poisons that a claim meets.
_CLAIMED = sorted(POISONS.keys() - {"url"})


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over without waiting for Postgres's first seconds to end."""
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))


def three(seconds: float = -5, **options: Any) -> list[UUID]:
    """Store three timers; the second is to be the bad one."""
    return new_timers(3, seconds, **options)


def requests(timers: list[UUID]) -> list[ClaimRequest]:
    return [ClaimRequest(timer_id, uuid4()) for timer_id in timers]


def three_claims() -> list[Claim]:
    return [claimed(timer_id) for timer_id in three()]


def end_lease(claim: Claim) -> None:
    change(claim.id, "leased_until = now() - interval '1 s'")


@pytest.mark.parametrize("poison", _CLAIMED)
def test_a_row_that_cannot_be_claimed_ends_and_the_others_are_claimed(
    poison: str,
) -> None:
    # Given a bad row between two good ones
    timers = three()
    change(timers[1], POISONS[poison][0])

    # When all three are claimed together
    answers = claiming.claim(requests(timers))

    # Then the others are, and the bad one has failed, with a reason
    assert [type(each) for each in answers] == [Claim, type(None), Claim]
    bad = row_of_bad(timers[1])
    assert bad["outcome"] == "failed"
    assert bad["error"].startswith("invalid: ")
    assert POISONS[poison][1] in bad["error"]
    assert bad["leased_until"] is None


def row_of_bad(timer_id: UUID) -> dict[str, Any]:
    """Return what Python can read of any row."""
    with pool().connection() as connection:
        found = connection.execute(
            "SELECT outcome, error, leased_until, queued_at, sent_at"
            " FROM timer WHERE id = %s",
            [timer_id],
        ).fetchone()
    assert found is not None
    names = ("outcome", "error", "leased_until", "queued_at", "sent_at")
    return dict(zip(names, found, strict=True))


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("is_over", [False, True])
def test_a_bad_row_is_shown_as_far_as_it_can_be_read(
    poison: str, is_over: bool
) -> None:
    timer_id = new_timer(-5)
    change(timer_id, POISONS[poison][0])
    if is_over:
        change(timer_id, "outcome = 'failed', error = 'invalid: x'")
    found = looking.get(OWNER, timer_id)
    assert found is not None
    assert found.id == timer_id
    assert found.error is None or found.error.startswith("invalid: ")
    if is_over:
        listed = finding.find(OWNER, TimerFilter(["failed"]), limit=10)
        assert [each.id for each in listed] == [timer_id]


def test_what_of_a_row_cannot_be_read_is_said() -> None:
    timer_id = new_timer(-5)
    change(
        timer_id,
        "due_at = 'infinity', created_at = '-infinity', sent_at = 'infinity',"
        " retry = '{\"x\": 1}', outcome = 'odd'",
    )
    found = looking.get(OWNER, timer_id)
    assert found is not None
    assert found.error == (
        "invalid: created_at is -infinity; due_at is infinity; sent_at is"
        " infinity; retry is no object of max_attempts, min_delay,"
        " max_delay, unanswered; outcome is 'odd'"
    )
    assert found.outcome == "failed"
    assert (found.sent_at, found.retry) == (None, None)
    assert found.due_at.year == 9999
    assert found.created_at.year == 1


def test_attempts_are_shown_as_far_as_they_can_be_read() -> None:
    claim = given_up()
    with pool().connection() as connection:
        connection.execute(
            "UPDATE attempt SET due_at = 'infinity', sent_at = '-infinity',"
            " duration = '10000000 years' WHERE timer_id = %s",
            [claim.id],
        )
    (found,) = looking.attempts(OWNER, claim.id)
    assert (found.sent_at, found.duration) == (None, None)
    assert found.number == 1


@pytest.mark.parametrize("idle", [True, False])
def test_what_was_queued_in_the_future_is_lost(idle: bool) -> None:
    timer_id = new_timer(-5, queued=True)
    assert queueing.lost(idle=idle, limit=10) == []
    change(timer_id, "queued_at = 'infinity'")
    lost = queueing.lost(idle=idle, limit=10)
    assert [each.id for each in lost] == [timer_id]


@pytest.mark.parametrize("overdue", [True, False])
def test_what_waits_since_ever_is_promoted_and_due_as_overdue(
    overdue: bool,
) -> None:
    timers = three()
    change(timers[1], "next_at = '-infinity'")
    expected = set(timers) if overdue else set()
    due = queueing.due(overdue=overdue, ahead=timedelta(seconds=2), limit=10)
    assert {near.id for near in due} == expected
    near = queueing.promote(overdue=overdue, limit=10)
    assert {each.id for each in near} == expected


def test_a_row_that_cannot_be_taken_over_ends_and_the_others_go_on() -> None:
    claims = three_claims()
    for claim in claims:
        end_lease(claim)
    change(claims[1].id, "attempts = 2147483647")
    taken = taking_over.take_over(limit=10)
    assert {(claims[0].id, None), (claims[2].id, None)} == set(taken)
    bad = row_of_bad(claims[1].id)
    assert (bad["outcome"], bad["error"]) == (
        "failed", "invalid: integer out of range"
    )
    assert taking_over.take_over(limit=10) == []


def test_what_may_have_been_received_is_unknown_when_it_is_set_aside() -> None:
    claim = claimed(new_timer(-5))
    claiming.mark_sent([Mark(claim.id, claim.token, claim.clock.database)])
    end_lease(claim)
    change(claim.id, "attempts = 2147483647")
    taking_over.take_over(limit=10)
    assert row_of_bad(claim.id)["outcome"] == "unknown"


def test_an_attempt_that_cannot_be_kept_leaves_the_outcome() -> None:
    # Given three calls, one of which can't be kept as it was
    claims = three_claims()
    reports = [report(claim) for claim in claims]
    bad = reports[1].attempt
    assert bad is not None
    reports[1] = replace(reports[1], attempt=replace(bad, number=2**31))

    # When all are recorded, then all are; one without its attempt
    assert recording.record(reports) == [True, True, True]
    assert [row(each.id)["outcome"] for each in claims] == ["delivered"] * 3
    assert [len(attempts(each.id)) for each in claims] == [1, 0, 1]
    assert row(claims[1].id)["error"] == "invalid: integer out of range"


def test_a_postponement_that_cannot_be_kept_ends_as_failed() -> None:
    claims = three_claims()
    timers = [postponement(claim, 60) for claim in claims]
    timers[1] = replace(timers[1], connect_failures=2**31)
    assert recording.postpone(timers) == [True, True, True]
    assert [row(each.id)["outcome"] for each in claims] == [
        None, "failed", None
    ]


def test_a_late_record_that_fails_does_not_end_another_claim() -> None:
    claim = claimed(new_timer(-5))
    late = replace(report(claim), error="\x00")
    change(claim.id, "claim_token = NULL, fired_at = NULL")
    assert recording.record([late]) == [False]
    assert row(claim.id)["outcome"] is None


def test_a_row_that_nobody_can_write_stops_no_claim(
    caplog: pytest.LogCaptureFixture,
) -> None:
    timers = three()
    seal(timers[1])
    for _ in range(3):
        answers = claiming.claim(requests(timers))
        assert answers[1] is None
    assert said_of(timers[1], caplog) == 1
    assert row(timers[1])["outcome"] is None
    assert [row(each)["claims"] for each in timers] == [1, 0, 1]


def said_of(timer_id: UUID, caplog: pytest.LogCaptureFixture) -> int:
    """Return how often the log says that the row is skipped."""
    return sum(
        record.getMessage().startswith("timer skipped")
        and vars(record)["timer"] == timer_id
        for record in caplog.records
        if record.levelno == logging.ERROR
    )


def test_a_row_that_nobody_can_write_stops_no_write_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given three calls under way, of which one's row can't be written
    claims = three_claims()
    held = [ClaimRequest(claim.id, claim.token) for claim in claims]
    seal(claims[1].id)

    # When they are renewed, marked, recorded: then the others are
    assert claiming.renew(held) == [True, False, True]
    now = claims[0].clock.database
    claiming.mark_sent([Mark(each.id, each.token, now) for each in claims])
    marked = [row(each.id)["sent_at"] is not None for each in claims]
    assert marked == [True, False, True]
    later = [postponement(claim) for claim in claims]
    assert recording.postpone(later[1:]) == [False, True]
    assert recording.record([report(claim) for claim in claims[:2]]) == [
        True, False
    ]
    assert said_of(claims[1].id, caplog) == 1


@pytest.mark.parametrize("overdue", [True, False])
def test_a_row_that_nobody_can_write_stops_no_promotion(
    overdue: bool, caplog: pytest.LogCaptureFixture
) -> None:
    timers = three(-5 if overdue else 5)
    seal(timers[1])
    near = queueing.promote(overdue=overdue, limit=10)
    assert [each.id for each in near] == [timers[0], timers[2]]
    assert queueing.promote(overdue=overdue, limit=10) == []
    due = queueing.due(overdue=overdue, ahead=timedelta(seconds=9), limit=10)
    assert due == []
    assert said_of(timers[1], caplog) == 1


def test_a_row_that_nobody_can_write_stops_no_sweep() -> None:
    timers = three(-5, queued=True)
    for timer_id in timers:
        change(timer_id, "queued_at = now() - interval '10 s'")
    seal(timers[1])
    queueing.unqueue(timers[1:2])
    lost = queueing.lost(idle=True, limit=10)
    assert {each.id for each in lost} == {timers[0], timers[2]}


def test_a_row_that_nobody_can_write_stops_no_take_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    claims = three_claims()
    for claim in claims:
        end_lease(claim)
    seal(claims[1].id)
    taken = taking_over.take_over(limit=10)
    assert {each for each, _ in taken} == {claims[0].id, claims[2].id}
    assert taking_over.take_over(limit=10) == []
    assert said_of(claims[1].id, caplog) == 1


def test_a_row_that_nobody_can_write_stops_no_replay() -> None:
    timers = [given_up().id for _ in range(3)]
    seal(timers[1])
    assert replaying.replay(OWNER, timers) == {timers[0], timers[2]}


def test_it_is_tried_again_after_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    skipped = aside.Skipped(lambda: now[0])
    timer_id = uuid4()
    for moment in (0.0, 30.0, 59.0, 61.0, 62.0):
        now[0] = moment
        skipped.add(timer_id, "invalid: x")
        assert skipped.ids() == [timer_id]
        assert f"timer {timer_id}: invalid: x" in TROUBLES.recent()
    assert said_of(timer_id, caplog) == 2
    now[0] = 200.0
    assert skipped.ids() == []


def test_another_schema_is_no_rows_fault() -> None:
    timers = three()
    with pool().connection() as connection:
        connection.execute("ALTER TABLE timer RENAME headers TO other")
        try:
            with pytest.raises(psycopg.ProgrammingError):
                claiming.claim(requests(timers))
        finally:
            connection.execute("ALTER TABLE timer RENAME other TO headers")
    assert [row(each)["outcome"] for each in timers] == [None] * 3


def test_a_reason_repeats_nothing_of_the_row() -> None:
    timer_id = new_timer(-5, url="http://127.0.0.1/secret")
    with pytest.raises(psycopg.IntegrityError, match="secret") as caught:
        change(timer_id, "created_at = NULL")
    assert "secret" not in aside.reason(caught.value)
    assert aside.reason(ValueError("a\nb\x00" + "c" * 999)) == (
        f"invalid: a?b?{'c' * 196}"
    )


def test_a_timer_that_was_tried_very_often_is_not_replayed() -> None:
    often, seldom = given_up().id, given_up().id
    change(often, "attempts = 32767")
    change(seldom, f"attempts = {replaying.MOST_ATTEMPTS - 2}")
    assert services.replay_timers(AUTHOR, [often, seldom], "id") == [often]
    with pytest.raises(services.TriedTooOften):
        services.replay_timer(OWNER, often)
    (claim,) = claiming.claim([ClaimRequest(seldom, uuid4())])
    assert isinstance(claim, Claim)
    assert claim.attempt == replaying.MOST_ATTEMPTS


def test_numbers_beyond_smallint_are_kept() -> None:
    timer_id = new_timer(-5)
    change(timer_id, "attempts = 40000")
    claim = claimed(timer_id)
    assert claim.attempt == 40_001
    assert recording.record([report(claim, Outcome.FAILED)]) == [True]
    assert [each["number"] for each in attempts(timer_id)] == [40_001]

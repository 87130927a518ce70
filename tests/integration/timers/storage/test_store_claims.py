"""Claiming: one winner, never early, and no wish without an answer."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from apps.core.database import connection_arguments, pool
from apps.timers.models import Outcome
from apps.timers.storage import claiming, queueing, recording, taking_over
from apps.timers.storage.claim_records import (
    Claim,
    ClaimAnswer,
    ClaimRequest,
    Early,
    Mark,
)
from tests.support.rows import (
    change,
    claimed,
    new_timer,
    new_timers,
    postponement,
    report,
    row,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")


def claim(timer_id: UUID, token: UUID | None = None) -> ClaimAnswer:
    return claiming.claim([ClaimRequest(timer_id, token or uuid4())])[0]


def test_of_twenty_threads_one_claims_a_timer() -> None:
    # Given a timer that is due
    timer_id = new_timer()
    start = threading.Barrier(20)

    def try_to_claim(_: int) -> ClaimAnswer:
        start.wait()
        return claim(timer_id)

    # When twenty threads wish for it at once
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(try_to_claim, range(20)))

    # Then one has it, and its claim is what the row says
    (winner,) = [answer for answer in answers if answer is not None]
    assert isinstance(winner, Claim)
    found = row(timer_id)
    assert (found["claim_token"], found["claims"]) == (winner.token, 1)
    assert found["fired_at"] >= found["next_at"]
    lease = found["leased_until"] - found["fired_at"]
    assert abs(lease - claiming.LEASE) < timedelta(seconds=0.1)


def test_a_repeated_claim_with_the_same_token_succeeds_again() -> None:
    timer_id, token = new_timer(), uuid4()
    first, second = claimed(timer_id, token), claimed(timer_id, token)
    assert (first.id, first.due_at) == (second.id, second.due_at)
    assert row(timer_id)["claims"] == 1
    assert claim(timer_id) is None


def test_a_repeated_claim_keeps_the_time_of_the_first() -> None:
    # Whether a request left in this claim is read off that time
    timer_id, token = new_timer(), uuid4()
    claimed(timer_id, token)
    fired_at = row(timer_id)["fired_at"]
    claimed(timer_id, token)
    assert row(timer_id)["fired_at"] == fired_at


def test_a_repeated_claim_succeeds_beside_another_wish() -> None:
    timer_id, token = new_timer(), uuid4()
    claimed(timer_id, token)
    requests = [ClaimRequest(timer_id, uuid4()) for _ in range(3)]
    requests.insert(random.randint(0, 3), ClaimRequest(timer_id, token))
    answers = claiming.claim(requests)
    assert [isinstance(answer, Claim) for answer in answers] == [
        request.token == token for request in requests
    ]


def test_of_two_wishes_for_one_timer_in_a_group_one_wins() -> None:
    timer_id, other = new_timers(2)
    answers = claiming.claim(
        [
            ClaimRequest(timer_id, uuid4()),
            ClaimRequest(other, uuid4()),
            ClaimRequest(timer_id, uuid4()),
            ClaimRequest(uuid4(), uuid4()),
        ]
    )
    won = [answer.id if isinstance(answer, Claim) else None
           for answer in answers]
    assert won[1] == other
    assert sorted([won[0] is None, won[2] is None]) == [False, True]
    assert won[3] is None
    assert row(timer_id)["claims"] == 1


def test_a_claim_within_the_lead_is_granted_and_an_earlier_one_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a lead of 30 s, and timers due in 20 s and in 40 s
    monkeypatch.setattr(claiming, "LEAD", timedelta(seconds=30))
    within, before = new_timer(20), new_timer(40)

    # When the first is claimed, Then it does not count as fired early
    granted = claim(within)
    assert isinstance(granted, Claim)
    assert granted.clock.database < granted.next_at
    assert row(within)["fired_at"] == granted.next_at

    # When the other is, Then the answer says how long there is to wait
    early = claim(before)
    assert isinstance(early, Early)
    assert 35 < early.wait <= 40
    assert row(before)["fired_at"] is None


def test_a_retry_is_claimed_by_its_own_time() -> None:
    """`next_at` decides; `due_at` only tells when it was meant to be."""
    timer_id = new_timer(-10)
    change(timer_id, "next_at = now() + interval '1 minute'")
    assert isinstance(claim(timer_id), Early)


@pytest.mark.parametrize(
    "state",
    [
        "fired_at = now(), claim_token = gen_random_uuid()",
        "fired_at = now(), outcome = 'delivered'",
        "outcome = 'failed'",
    ],
)
def test_only_a_waiting_timer_is_claimed(state: str) -> None:
    timer_id = new_timer()
    change(timer_id, state)
    before = row(timer_id)
    assert claim(timer_id) is None
    assert row(timer_id) == before


def test_what_comes_due_while_a_group_waits_for_a_lock_gets_an_answer(
) -> None:
    """Neither claimed nor early would mean: drop the message."""
    # Given a timer whose row is locked, and one that is early for 300 ms
    early, locked = new_timer(0.3), new_timer()
    requests = [ClaimRequest(early, uuid4()), ClaimRequest(locked, uuid4())]
    with (
        psycopg.connect(**connection_arguments()) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        other.execute("SELECT FROM timer WHERE id = %s FOR UPDATE", [locked])

        # When both are claimed, and the lock goes after the 300 ms
        answers = thread.submit(claiming.claim, requests)
        eventually(lambda: len(queueing.due(
            overdue=True, ahead=timedelta(0), limit=10
        )) == 2)
        other.rollback()
        later, granted = answers.result()

    # Then neither is left without
    assert isinstance(granted, Claim)
    assert isinstance(later, Early | Claim)


def writes() -> dict[str, Callable[[list[Claim]], object]]:
    return {
        "claim": lambda claims: claiming.claim(
            [ClaimRequest(claim.id, claim.token) for claim in claims]
        ),
        "record": lambda claims: recording.record(
            [report(claim) for claim in claims]
        ),
        "renew": lambda claims: claiming.renew(
            [ClaimRequest(claim.id, claim.token) for claim in claims]
        ),
        "postpone": lambda claims: recording.postpone(
            [postponement(claim) for claim in claims]
        ),
        "mark": lambda claims: claiming.mark_sent(
            [Mark(c.id, c.token, c.clock.database) for c in claims]
        ),
        "unqueue": lambda claims: queueing.unqueue([c.id for c in claims]),
        "take over": lambda claims: taking_over.take_over(limit=len(claims)),
        "promote": lambda claims: queueing.promote(
            overdue=True, limit=len(claims)
        ),
        "lost": lambda claims: queueing.lost(idle=True, limit=len(claims)),
    }


@pytest.mark.parametrize("first", writes())
def test_groups_in_opposite_orders_do_not_deadlock(first: str) -> None:
    # Given claimed, and waiting, timers
    claims = [claimed(timer_id) for timer_id in new_timers(150)]
    waiting = [
        replace(claims[0], id=timer_id, token=uuid4())
        for timer_id in new_timers(150, -10)
    ]
    claims += waiting
    statements = [writes()[first], *writes().values()]

    # When each statement runs on them in its own order, at the same time
    def run(number: int) -> None:
        order = random.Random(number).sample(claims, len(claims))
        statements[number % len(statements)](order)

    with ThreadPoolExecutor(8) as threads:
        # Then none of them is a deadlock's victim
        list(threads.map(run, range(32)))


def test_records_need_the_token_and_may_be_repeated() -> None:
    # Given two claimed timers
    mine, other = (claimed(timer_id) for timer_id in new_timers(2))
    foreign = replace(report(other, Outcome.FAILED), token=uuid4())

    # When one is reported twice, the other by somebody else
    for _ in range(2):
        assert recording.record([foreign, report(mine)]) == [False, True]

    # Then the one has ended, the other has not
    found = row(mine.id)
    assert (found["outcome"], found["status_code"]) == ("delivered", 200)
    assert found["sent_at"] == mine.clock.database
    assert found["leased_until"] is None
    assert row(other.id)["outcome"] is None


def test_a_record_without_a_time_of_sending_keeps_the_marked_one() -> None:
    mine = claimed(new_timer())
    claiming.mark_sent([Mark(mine.id, mine.token, mine.due_at)])
    recording.record([report(mine, Outcome.FAILED)])
    assert row(mine.id)["sent_at"] == mine.due_at


def test_marks_need_the_token_and_come_before_the_record() -> None:
    mine, other = (claimed(timer_id) for timer_id in new_timers(2))
    claiming.mark_sent(
        [
            Mark(mine.id, mine.token, mine.due_at),
            Mark(other.id, uuid4(), other.due_at),
        ]
    )
    assert row(mine.id)["sent_at"] == mine.due_at
    assert row(other.id)["sent_at"] is None

    recording.record([report(mine)])
    claiming.mark_sent([Mark(mine.id, mine.token, mine.due_at)])
    assert row(mine.id)["sent_at"] == mine.clock.database


def test_the_clock_is_read_after_the_commit() -> None:
    """The worker waits from it on, so it must not be a commit old."""
    first, second = (claimed(timer_id) for timer_id in new_timers(2))
    assert row(first.id)["fired_at"] < first.clock.database
    assert row(second.id)["fired_at"] > first.clock.database
    with pool().connection() as connection:
        assert connection.info.transaction_status == 0

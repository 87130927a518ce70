"""Queue marks, the sweep and the take-over of lost claims."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from time import monotonic
from uuid import UUID, uuid4

import pytest

from apps.core.database import STALL, Connection
from apps.timers.models import Outcome
from apps.timers.storage import (
    changing,
    claiming,
    creating,
    looking,
    queueing,
    recording,
    records,
    taking_over,
)
from apps.timers.storage.claim_records import Claim, Mark
from apps.timers.storage.records import (
    ClockReading,
    Definition,
    DueMessage,
    NewTimer,
)
from tests.support.accounts import OWNER
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    fill,
    new_timer,
    new_timers,
    report,
    row,
)

pytestmark = pytest.mark.usefixtures("db_pool")


def promote(overdue: bool) -> list[DueMessage]:
    return queueing.promote(overdue=overdue, limit=100)


def ids(timers: list[DueMessage]) -> set[UUID]:
    return {timer.id for timer in timers}


def test_a_stored_timer_counts_from_one_reading_of_the_clock() -> None:
    # Given three timers that are stored together
    timers = [
        NewTimer(
            uuid4(), OWNER, Definition(f"http://x/{delay}"),
            timedelta(seconds=delay), near,
        )
        for delay, near in ((0, True), (90, False), (31_536_000, False))
    ]

    # When they are stored
    before = monotonic()
    due = creating.create(timers)

    # Then each is due its delay after its creation, by Postgres's clock
    for timer, moment in zip(timers, due, strict=True):
        found = row(timer.id)
        assert found["due_at"] == found["created_at"] + timer.delay
        assert found["next_at"] == found["due_at"]
        assert (found["queued_at"] is not None) == timer.queued
        assert found["url"] == timer.definition.url
        since = moment - timer.delay.total_seconds()
        assert before - 1 < since <= monotonic()
        assert found["claims"] == 0


@pytest.mark.parametrize(
    ("seconds", "left"), [(-1, 0), (0, 0), (100, 100), (31_536_000, 31536000)]
)
def test_time_left_is_whole_seconds_rounded_up(
    seconds: int, left: int
) -> None:
    found = looking.get(OWNER, new_timer(seconds))
    assert found is not None
    assert found.time_left == left


def test_time_left_is_zero_exactly_when_expired() -> None:
    timer_id = new_timer(0.9)
    seen = set()
    while True:
        before = looking.get(OWNER, timer_id)
        clock = database_clock()
        assert before is not None
        seen.add(before.time_left)
        if before.time_left == 0:
            assert clock >= before.due_at
            break
    assert seen == {0, 1}


def test_there_is_no_timer_of_another_id() -> None:
    assert looking.get(OWNER, uuid4()) is None


def states() -> Iterator[tuple[str, float, str, str]]:
    """Yield a name, when it is due, its state, and who looks at it."""
    claim = "fired_at = now(), claim_token = gen_random_uuid()"
    ended = "outcome = 'failed'"
    for seconds, kind in ((-5, "overdue"), (30, "near"), (90, "")):
        yield f"waiting {seconds}", seconds, "queued_at = NULL", kind
        yield f"queued {seconds}", seconds, "queued_at = now()", ""
        yield f"claimed {seconds}", seconds, claim, ""
        yield f"ended {seconds}", seconds, ended, ""


@pytest.mark.parametrize(
    ("seconds", "state", "kind"),
    [pytest.param(*case[1:], id=case[0]) for case in states()],
)
def test_what_waits_and_is_near_is_due_and_promoted_once(
    seconds: float, state: str, kind: str
) -> None:
    # Given a timer in one of its states
    timer_id = new_timer(seconds)
    change(timer_id, state)
    expected = {
        "overdue": ({timer_id}, set()), "near": (set(), {timer_id})
    }.get(kind, (set(), set()))

    # When it is asked for, Then it is found by its kind, and left unmarked
    for _ in range(2):
        assert expected == tuple(
            ids(queueing.due(overdue=overdue, ahead=queueing.HORIZON, limit=9))
            for overdue in (True, False)
        )

    # When it is promoted, Then it is marked, and not found again
    promoted = [promote(True), promote(False)]
    assert tuple(map(ids, promoted)) == expected
    for near in chain(*promoted):
        assert near.overdue == (kind == "overdue")
        assert abs(near.at - monotonic() - seconds) < 2
    assert promote(True) == promote(False) == []


def test_due_looks_no_further_ahead_than_it_is_told() -> None:
    timer_id = new_timer(3)
    for ahead, expected in ((2, set()), (4, {timer_id})):
        found = queueing.due(
            overdue=False, ahead=timedelta(seconds=ahead), limit=9
        )
        assert ids(found) == expected


def test_the_most_overdue_are_promoted_first() -> None:
    timers = [new_timer(-age) for age in (5, 20, 10)]
    first = queueing.promote(overdue=True, limit=2)
    assert ids(first) == {timers[1], timers[2]}
    assert ids(promote(True)) == {timers[0]}


def test_dispatchers_side_by_side_promote_each_timer_once() -> None:
    # Given 2,000 overdue timers
    timers = new_timers(2000, -5)

    # When four promote them, in batches
    def run(_: int) -> list[DueMessage]:
        found: list[DueMessage] = []
        while batch := queueing.promote(overdue=True, limit=100):
            found += batch
        return found

    with ThreadPoolExecutor(4) as threads:
        found = list(chain(*threads.map(run, range(4))))

    # Then each is promoted by one of them
    assert sorted(near.id for near in found) == sorted(timers)


def test_a_cleared_mark_lets_a_timer_be_promoted_again() -> None:
    waiting, taken = new_timers(2, -5, queued=True)
    claimed(taken)
    queueing.unqueue([waiting, taken, uuid4()])
    assert ids(promote(True)) == {waiting}
    assert row(taken)["queued_at"] is not None


@pytest.mark.parametrize(
    ("overdue_by", "queued_ago", "idle", "busy"),
    [
        (1, 100, False, False),
        (2.5, 4, False, False),
        (2.5, 6, True, False),
        (2.5, 100, True, False),  # on its way for the horizon, then here
        (55, 70, True, False),
        (65, 55, True, False),
        (65, 65, True, True),
        (-30, 100, False, False),
    ],
)
def test_what_is_lost(
    overdue_by: float, queued_ago: float, idle: bool, busy: bool
) -> None:
    """The queues being empty, or not, decides how soon it is a loss."""
    for is_idle, expected in ((True, idle), (False, busy)):
        timer_id = new_timer(-overdue_by, queued=True)
        change(
            timer_id, f"queued_at = now() - interval '{queued_ago} seconds'"
        )
        before = row(timer_id)["queued_at"]
        lost = queueing.lost(idle=is_idle, limit=9)
        assert ids(lost) == ({timer_id} if expected else set())
        assert (row(timer_id)["queued_at"] > before) == expected
        assert all(near.overdue for near in lost)
        assert queueing.lost(idle=is_idle, limit=9) == []
        change(timer_id, "outcome = 'failed'")


def test_what_is_claimed_or_never_queued_is_not_lost() -> None:
    ended = "outcome = 'failed'"
    for state in ("fired_at = now()", ended, "queued_at = NULL"):
        timer_id = new_timer(-500, queued=True)
        change(timer_id, "queued_at = now() - interval '100 seconds'")
        change(timer_id, state)
    assert queueing.lost(idle=True, limit=9) == []


def test_near_timers_are_counted_queued_or_not() -> None:
    for seconds, queued in ((-5, True), (-5, False), (5, True), (90, False)):
        new_timer(seconds, queued=queued)
    claimed(new_timer(-5))
    assert queueing.count_near() == (2, 1)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Postgres have been up for long enough."""
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))


def lose(claim: Claim) -> None:
    """Let a claim's lease have ended."""
    change(claim.id, "leased_until = now() - interval '1 ms'")


@pytest.mark.usefixtures("settled")
def test_an_unsent_claim_is_opened_again_five_times_then_fails() -> None:
    # Given a timer whose workers die before the call
    timer_id = new_timer(-5, queued=True)
    for _ in range(5):
        lose(claimed(timer_id))
        assert taking_over.take_over(limit=9) == [(timer_id, None)]
        found = row(timer_id)
        assert [found[name] for name in (
            "fired_at", "claim_token", "leased_until", "queued_at", "outcome",
        )] == [None] * 5
        assert ids(promote(True)) == {timer_id}

    # When that happens once more
    last = claimed(timer_id)
    lose(last)

    # Then it has failed, and says why
    assert taking_over.take_over(limit=9) == [(timer_id, Outcome.FAILED)]
    found = row(timer_id)
    assert found["error"] == "worker_lost: 6 workers died before the call"
    assert found["fired_at"] is not None
    assert taking_over.take_over(limit=9) == []
    assert promote(True) == []

    # When the last worker was alive after all, Then its answer counts
    assert recording.record([report(last)]) == [True]
    found = row(timer_id)
    assert (found["outcome"], found["error"]) == ("delivered", None)


@pytest.mark.usefixtures("settled")
def test_a_sent_claim_ends_as_unknown_until_its_answer_comes() -> None:
    # Given a claim whose request has left
    mine = claimed(new_timer(-5))
    claiming.mark_sent([Mark(mine.id, mine.token, mine.due_at)])
    lose(mine)

    # When it is taken over, Then it is not fired again
    assert taking_over.take_over(limit=9) == [(mine.id, Outcome.UNKNOWN)]
    assert row(mine.id)["error"].startswith("unknown: the worker died")
    assert promote(True) == []

    # When the answer is recorded late, Then it is the outcome
    assert recording.record([report(mine)]) == [True]
    found = row(mine.id)
    assert (found["outcome"], found["error"]) == ("delivered", None)


@pytest.mark.usefixtures("settled")
def test_a_sent_claim_is_opened_again_when_the_timer_wants_that() -> None:
    # Given a timer to be delivered at least once
    timer_id = new_timer(-5, at_least_once=True)
    sent = None
    for _ in range(5):
        # When its request has left, and its worker dies
        mine = claimed(timer_id)
        now = database_clock()
        claiming.mark_sent([Mark(mine.id, mine.token, now)])
        lose(mine)

        # Then it is open again, and knows that it may have been received
        assert taking_over.take_over(limit=9) == [(timer_id, None)]
        found = row(timer_id)
        assert (found["fired_at"], found["claim_token"]) == (None, None)
        assert found["sent_at"] == now != sent
        assert not changing.cancel(OWNER, timer_id)
        sent = now

    # When that happens once more, even before the request has left
    last = claimed(timer_id)
    lose(last)

    # Then nobody knows, until the answer comes
    assert taking_over.take_over(limit=9) == [(timer_id, Outcome.UNKNOWN)]
    assert row(timer_id)["sent_at"] == sent
    assert promote(True) == []
    assert recording.record([report(last)]) == [True]
    assert row(timer_id)["outcome"] == "delivered"


@pytest.mark.usefixtures("settled")
def test_a_late_record_of_a_reopened_claim_is_refused() -> None:
    mine = claimed(new_timer(-5))
    lose(mine)
    taking_over.take_over(limit=9)
    assert recording.record([report(mine)]) == [False]
    assert row(mine.id)["outcome"] is None

    # And neither its mark nor its record touches the next claim
    other = claimed(mine.id)
    claiming.mark_sent([Mark(mine.id, mine.token, mine.due_at)])
    assert recording.record([report(mine)]) == [False]
    found = row(mine.id)
    assert (found["sent_at"], found["outcome"]) == (None, None)
    assert found["claim_token"] == other.token


@pytest.mark.usefixtures("settled")
def test_running_leases_are_left_alone() -> None:
    mine = claimed(new_timer(-5))
    before = row(mine.id)
    assert taking_over.take_over(limit=9) == []
    assert row(mine.id) == before


def test_nothing_is_taken_over_soon_after_postgres_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = claimed(new_timer(-5))
    lose(mine)
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(days=36_500))
    assert taking_over.take_over(limit=9) == []
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    assert taking_over.take_over(limit=9) == [(mine.id, None)]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("held_up", ["its question", "its statement"])
def test_what_was_held_up_on_its_way_takes_nothing_over(
    monkeypatch: pytest.MonkeyPatch, held_up: str
) -> None:
    # Given a taking over of which one part is late
    mine = claimed(new_timer(-5))
    lose(mine)
    read_clock = records.read_clock

    def late(connection: Connection) -> ClockReading:
        found = read_clock(connection)
        if held_up == "its question":
            return replace(found, monotonic=found.monotonic + STALL)
        seconds = timedelta(seconds=STALL)
        return replace(found, database=found.database - seconds)

    # Then it does nothing
    monkeypatch.setattr(taking_over, "read_clock", late)
    assert taking_over.take_over(limit=9) == []
    monkeypatch.setattr(taking_over, "read_clock", read_clock)
    assert taking_over.take_over(limit=9) == [(mine.id, None)]


@pytest.mark.usefixtures("settled")
def test_each_lost_claim_is_taken_over_once() -> None:
    fill(
        500,
        "due_at = now(); next_at = now(); fired_at = now();"
        " claim_token = gen_random_uuid(); claims = 1;"
        " leased_until = now() - interval '1 s'",
    )

    def run(_: int) -> list[UUID]:
        found: list[UUID] = []
        while batch := taking_over.take_over(limit=50):
            found += [timer_id for timer_id, _ in batch]
        return found

    with ThreadPoolExecutor(4) as threads:
        found = list(chain(*threads.map(run, range(4))))
    assert len(found) == len(set(found)) == 500

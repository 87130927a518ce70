"""Messages of timers that were moved: which are sent back, and when."""

import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from pytest_django import Settings

from apps.timers.firing import claims, fire
from apps.timers.scheduling import publishing
from apps.timers.storage import changing, queueing
from apps.timers.storage.claim_records import Early
from apps.timers.storage.records import Change, DueMessage, Stored
from tests.support.accounts import OWNER
from tests.support.rows import change, new_timer, row

pytestmark = pytest.mark.usefixtures("db_pool")


@pytest.fixture
def published(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> list[DueMessage]:
    """Return what is published; there seems to be a RabbitMQ."""
    settings.RABBITMQ_URL = "amqp://127.0.0.1/"
    made: list[DueMessage] = []

    def publish(timers: Sequence[DueMessage]) -> int:
        made.extend(timers)
        return len(timers)

    monkeypatch.setattr(publishing, "publish", publish)
    return made


def queued_timer(seconds: float) -> UUID:
    timer_id = new_timer(seconds)
    change(timer_id, "queued_at = now()")
    return timer_id


def moved(timer_id: UUID, seconds: float) -> Stored:
    delay = timedelta(seconds=seconds)
    change = Change(timer_id, OWNER, "moved", delay=delay)
    (stored,) = changing.change([change])
    assert stored is not None
    return stored


def seconds_until(timer: DueMessage) -> float:
    return timer.at - time.monotonic()


def test_of_many_messages_that_come_early_one_is_sent_back(
    published: list[DueMessage],
) -> None:
    # Given a timer that is moved later, whose message needs no other
    timer_id = queued_timer(0)
    assert moved(timer_id, 30).publish_at is None

    # When its message comes, and others that were on their way
    for _ in range(5):
        fire.fire(timer_id)

    # Then one of them is sent back
    (sent,) = published
    assert 25 < seconds_until(sent) <= 30


@pytest.mark.parametrize("seconds", [10, 50])
def test_a_message_is_sent_back_for_the_time_that_counts_by_then(
    published: list[DueMessage], seconds: int
) -> None:
    # Given a message that comes early, whose timer is moved once more
    timer_id = queued_timer(0)
    assert moved(timer_id, 30).publish_at is None
    early, _ = claims.claim(timer_id)
    assert isinstance(early, Early)
    assert moved(timer_id, seconds).publish_at is None

    # When it is sent back, Then that is for the last time
    publishing.send_on(DueMessage(timer_id, time.monotonic() + early.wait))
    (sent,) = published
    assert seconds - 5 < seconds_until(sent) <= seconds


def test_a_timer_moved_earlier_gets_a_message_and_drops_the_other(
    published: list[DueMessage],
) -> None:
    # Given a timer that is moved earlier, and later again
    timer_id = queued_timer(50)
    publish_at = moved(timer_id, 20).publish_at
    assert publish_at is not None
    assert 15 < publish_at - time.monotonic() <= 20
    assert moved(timer_id, 40).publish_at is None

    # When a message comes before the one that it got then
    fire.fire(timer_id)

    # Then it is dropped
    assert published == []

    # When that one comes, Then it is sent back
    change(timer_id, "arrives_at = now()")
    fire.fire(timer_id)
    (sent,) = published
    assert 35 < seconds_until(sent) <= 40


def test_a_message_that_comes_a_little_too_early_is_not_dropped(
    published: list[DueMessage],
) -> None:
    # Given a timer that was moved, and whose one message comes 0.5 s early
    timer_id = queued_timer(50)
    assert moved(timer_id, 0.5).publish_at is not None
    fire.fire(timer_id)

    # Then it is sent back
    (sent,) = published
    assert seconds_until(sent) <= 0.5


def test_a_timer_moved_far_leaves_its_messages_behind(
    published: list[DueMessage],
) -> None:
    # Given a near timer that is moved to tomorrow
    timer_id = queued_timer(1)
    assert moved(timer_id, 86_400).publish_at is None
    assert row(timer_id)["queued_at"] is None

    # When its message comes, Then it is dropped, and nothing is queued
    fire.fire(timer_id)
    assert published == []
    assert row(timer_id)["queued_at"] is None

    # When it is near again, Then it is promoted, and moved as any other
    change(timer_id, "next_at = now() + interval '20 s'")
    (near,) = queueing.promote(overdue=False, limit=9)
    assert near.id == timer_id
    assert moved(timer_id, 40).publish_at is None
    change(timer_id, "arrives_at = now()")
    fire.fire(timer_id)
    (sent,) = published
    assert 35 < seconds_until(sent) <= 40


def test_a_timer_that_was_deferred_and_is_moved_is_deferred_no_more() -> None:
    timer_id = new_timer(-1)
    change(timer_id, "deferred = true, connect_failures = 3,"
                     " retry_until = now(), replayed_at = now()")
    stored = moved(timer_id, 5)
    found = row(timer_id)
    assert (stored.timer.deferred, found["connect_failures"]) == (False, 0)
    assert (found["retry_until"], found["replayed_at"]) == (None, None)

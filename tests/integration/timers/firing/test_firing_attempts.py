"""Attempts that failed are kept, and repeated if that is asked for."""

from datetime import timedelta
from uuid import UUID

import pytest
import standardwebhooks
from pytest_django import Settings

from apps.timers.firing import call, fire
from apps.timers.models import Outcome
from apps.timers.storage import claiming, recording, taking_over
from apps.timers.storage.claim_records import Claim, Mark
from apps.webhooks.destination import Deferral
from apps.webhooks.request import WebhookRequest
from apps.webhooks.retry import RetryPolicy
from tests.support.receiver import Receiver, hanging, scripted
from tests.support.rows import (
    attempts,
    change,
    claimed,
    database_clock,
    new_timer,
    report,
    row,
)
from tests.support.service import SECRET

pytestmark = pytest.mark.usefixtures("local_calls")

POLICY = RetryPolicy(3, 10, 3600, unanswered=False)


def fire_again(timer_id: UUID) -> None:
    """Fire a timer whose next time has come, without waiting for it."""
    change(timer_id, "next_at = now()")
    fire.fire(timer_id)


def test_each_attempt_is_kept_until_the_last(receiver: Receiver) -> None:
    # Given a receiver that answers 500, and a timer to be retried twice
    receiver.status, receiver.answer = 500, b"\x00" * 2000
    timer_id = new_timer(-1, url=receiver.url(), retry=POLICY)

    # When it is fired, Then it waits for its second attempt
    now = database_clock()
    fire.fire(timer_id)
    found = row(timer_id)
    assert found["outcome"] is None
    assert found["fired_at"] is None
    assert found["status_code"] == 500
    wait = (found["next_at"] - now).total_seconds()
    assert 5 <= wait < 12
    fire.fire(timer_id)  # before its time, as a message may come
    assert len(receiver.calls) == 1

    # When it has been fired three times, Then it has failed
    fire_again(timer_id)
    assert row(timer_id)["outcome"] is None
    fire_again(timer_id)
    assert row(timer_id)["outcome"] == "failed"
    fire.fire(timer_id)
    assert [call.headers["timer-attempt"] for call in receiver.calls] == [
        "1", "2", "3",
    ]
    assert {call.headers["webhook-id"] for call in receiver.calls} == {
        str(timer_id)
    }

    # And each attempt says what came of it
    kept = attempts(timer_id)
    assert [attempt["number"] for attempt in kept] == [1, 2, 3]
    assert [attempt["status_code"] for attempt in kept] == [500] * 3
    assert kept[0]["due_at"] == found["due_at"]
    for attempt in kept:
        assert attempt["due_at"] < attempt["sent_at"]
        assert timedelta(0) < attempt["duration"] < timedelta(seconds=5)
        assert attempt["error"] is None
        assert attempt["answer"] == b"\x00" * 1024


@pytest.mark.parametrize("again", [False, True])
def test_what_was_not_answered_is_sent_again_only_at_least_once(
    again: bool, settings: Settings
) -> None:
    # Given a receiver that hangs
    settings.WEBHOOK_TIMEOUT = 0.3
    policy = RetryPolicy(3, 10, 3600, unanswered=again)
    with scripted(hanging) as bad:
        timer_id = new_timer(
            -1, url=bad.url(), retry=policy, at_least_once=again
        )
        # When its timer is fired, Then it waits only if that was asked for
        fire.fire(timer_id)
    assert (row(timer_id)["outcome"] is None) == again
    (attempt,) = attempts(timer_id)
    assert attempt["error"].startswith("timeout: ")
    assert attempt["sent_at"] is not None


@pytest.mark.parametrize(
    ("status", "wait"), [(429, 100), (503, 100), (500, 10)]
)
def test_a_receiver_may_ask_for_a_pause(
    receiver: Receiver, status: int, wait: float
) -> None:
    receiver.status, receiver.headers = status, {"Retry-After": "100"}
    timer_id = new_timer(-1, url=receiver.url(), retry=POLICY)
    fire.fire(timer_id)
    found = row(timer_id)
    delay = (found["next_at"] - found["due_at"]).total_seconds()
    assert wait / 2 < delay < wait + 5


def test_gone_is_not_called_again(receiver: Receiver) -> None:
    receiver.status = 410
    timer_id = new_timer(-1, url=receiver.url(), retry=POLICY)
    fire.fire(timer_id)
    assert row(timer_id)["outcome"] == "failed"


def test_retries_count_apart_from_connecting(
    absent: Receiver,
) -> None:
    # Given a timer that could not be connected to, twice
    timer_id = new_timer(-1, url=absent.url(), retry=POLICY)
    fire.fire(timer_id)
    fire_again(timer_id)
    assert row(timer_id)["connect_failures"] == 2

    # When it is answered 503, Then its patience to connect is as new
    absent.status = 503
    absent.listen()
    fire_again(timer_id)
    found = row(timer_id)
    assert (found["connect_failures"], found["retry_until"]) == (0, None)
    assert (found["retries"], found["attempts"]) == (1, 3)
    kept = attempts(timer_id)
    assert [attempt["number"] for attempt in kept] == [1, 2, 3]
    assert kept[0]["error"].startswith("refused: ")
    assert (kept[0]["sent_at"], kept[0]["status_code"]) == (None, None)
    assert kept[2]["status_code"] == found["status_code"] == 503

    # And when it can't be connected to again, it says that alone
    change(timer_id, "url = 'http://127.0.0.1:1/'")
    fire_again(timer_id)
    found = row(timer_id)
    assert found["error"].startswith("refused: ")
    assert found["status_code"] is None


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("left", [False, True])
def test_a_retry_whose_worker_dies(receiver: Receiver, left: bool) -> None:
    # Given a timer that was answered 500 once
    receiver.status = 500
    timer_id = new_timer(-1, url=receiver.url(), retry=POLICY)
    fire.fire(timer_id)
    change(timer_id, "next_at = now()")

    # When the worker of its second attempt dies
    mine = claimed(timer_id)
    if left:
        claiming.mark_sent([Mark(mine.id, mine.token, mine.clock.database)])
    change(timer_id, "leased_until = now() - interval '1 s'")
    outcome = Outcome.UNKNOWN if left else None

    # Then only whether this one had left decides
    assert taking_over.take_over(limit=9) == [(timer_id, outcome)]
    kept = attempts(timer_id)
    assert [attempt["number"] for attempt in kept] == [1, 2]
    assert kept[0]["status_code"] == 500
    kind = "unknown: " if left else "worker_lost: "
    assert kept[1]["error"].startswith(kind)
    assert (kept[1]["sent_at"] is not None) == left

    # And a late answer corrects both, unless the claim is lost
    assert recording.record([report(mine)]) == [left]
    if left:
        assert row(timer_id)["outcome"] == "delivered"
        assert attempts(timer_id)[1]["status_code"] == 200
        assert attempts(timer_id)[1]["error"] is None
    else:
        assert claimed(timer_id).attempt == 3


@pytest.mark.parametrize(
    ("method", "given", "sent"),
    [
        ("PUT", "\x00 é".encode(), "\x00 é".encode()),
        ("PATCH", b"", b""),
        ("GET", None, b""),
        ("DELETE", None, b""),
    ],
)
def test_the_request_is_the_creators_and_signed(
    receiver: Receiver, method: str, given: bytes | None, sent: bytes
) -> None:
    # Given a timer with a request of its own
    request = WebhookRequest(method, {"X-Token": "a b"}, given)
    timer_id = new_timer(-1, url=receiver.url(), request=request)

    # When it is fired, Then the receiver gets just that
    fire.fire(timer_id)
    (received,) = receiver.calls
    assert (received.method, received.body) == (method, sent)
    assert received.headers["x-token"] == "a b"

    # And accepts it, but not with another body
    standard = standardwebhooks.Webhook(SECRET)
    standard.verify(received.body, received.headers, json_parse=False)
    # At the top, it would take a tenth of each worker's collection.
    import svix.webhooks

    svix.webhooks.Webhook(SECRET).verify(received.body, received.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standard.verify(
            received.body + b" ", received.headers, json_parse=False
        )


@pytest.mark.parametrize(
    ("latest", "outcome"), [("-0.5 s", "missed"), ("30 s", "delivered")]
)
def test_past_its_latest_time_a_timer_is_missed(
    receiver: Receiver, latest: str, outcome: str
) -> None:
    # Given a timer, overdue, and how late it may be
    timer_id = new_timer(-5, url=receiver.url())
    change(timer_id, f"max_lateness = now() - due_at + '{latest}'")

    # When it is fired, Then it is called only if that is in time
    fire.fire(timer_id)
    found = row(timer_id)
    assert found["outcome"] == outcome
    assert len(receiver.calls) == (outcome == "delivered")
    if outcome == "missed":
        assert found["error"].startswith("max_lateness: ")
        assert attempts(timer_id) == []
        assert found["claims"] == 0


def test_it_is_missed_also_if_the_time_passes_in_connecting(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a timer that is in time when it is claimed
    timer_id = new_timer(0, url=receiver.url(), max_lateness=timedelta(1))
    answers = iter([False, True, True])
    monkeypatch.setattr(Claim, "is_too_late", lambda _: next(answers))

    # When it is too late by the time of its first byte, Then it is missed
    fire.fire(timer_id)
    assert row(timer_id)["outcome"] == "missed"
    assert receiver.calls == []


@pytest.mark.parametrize("hanging", [False, True])
def test_a_destination_that_takes_no_more_has_its_timers_wait(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, hanging: bool
) -> None:
    # Given a destination with all the calls that it may have
    deferral = Deferral(30.0, hanging, "busy: so many calls")
    destinations = call.destinations()
    monkeypatch.setattr(destinations, "enter", lambda origin, **_: deferral)

    # When its timer is fired, Then it waits in Postgres, and says why
    timer_id = new_timer(-1, url=receiver.url(), queued=True)
    now = database_clock()
    fire.fire(timer_id)
    assert receiver.calls == []
    found = row(timer_id)
    assert found["error"] == "busy: so many calls"
    assert 29 < (found["next_at"] - now).total_seconds() < 32
    assert [found[name] for name in (
        "fired_at", "queued_at", "outcome", "attempts", "claims",
    )] == [None, None, None, 0, 0]
    assert attempts(timer_id) == []

    # And then is called as if for the first time
    monkeypatch.undo()
    fire_again(timer_id)
    (received,) = receiver.calls
    assert received.headers["timer-attempt"] == "1"


def test_an_address_that_takes_no_more_has_its_timers_wait(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a name whose address turns out to have enough calls
    deferral = Deferral(30.0, False, "busy: so many calls")
    destinations = call.destinations()
    monkeypatch.setattr(destinations, "locate", lambda *_, **__: deferral)

    # When its timer is fired, Then it waits in Postgres, uncalled
    timer_id = new_timer(-1, url=receiver.url(), queued=True)
    fire.fire(timer_id)
    assert receiver.calls == []
    found = row(timer_id)
    assert found["error"] == "busy: so many calls"
    assert (found["attempts"], found["outcome"]) == (0, None)
    # And the slot is free again
    assert destinations._free == destinations._slots

    # And then it is called
    monkeypatch.undo()
    fire_again(timer_id)
    assert len(receiver.calls) == 1

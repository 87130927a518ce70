"""Whatever goes wrong about a call, it ends in a record, not in a repeat."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from apps.timers import decisions
from apps.timers.firing import claims, fire
from apps.timers.firing.call import Call
from apps.timers.scheduling import dispatcher
from apps.timers.storage import claiming, recording, taking_over
from apps.timers.storage.claim_records import Mark, Report
from apps.webhooks.retry import RetryPolicy
from tests.support.poison import POISONS
from tests.support.receiver import Receiver, answering, scripted
from tests.support.rows import (
    attempts,
    change,
    database_clock,
    new_timer,
    row,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("local_calls")

#: A year that no date has.
_YEAR = (
    b"HTTP/1.1 503 X\r\nretry-after: Fri, 31 Dec 99999999999 23:59:59 GMT\r\n"
    b"content-length: 0\r\n\r\n"
)


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_url_that_cannot_be_called_ends_the_timer(
    receiver: Receiver,
) -> None:
    timer_id = new_timer(-1, url=receiver.url())
    change(timer_id, POISONS["url"][0])
    fire.fire(timer_id)
    found = row(timer_id)
    assert found["outcome"] == "failed"
    assert found["error"].startswith("invalid: url: Give an absolute URL")
    assert attempts(timer_id) == []


@pytest.mark.parametrize(
    "retry", [None, RetryPolicy(3, 10, 60, unanswered=False)]
)
def test_a_date_that_cannot_be_read_is_none(
    retry: RetryPolicy | None,
) -> None:
    with scripted(answering(_YEAR)) as server:
        timer_id = new_timer(
            -1, url=f"http://127.0.0.1:{server.port}/", retry=retry
        )
        fire.fire(timer_id)
        fire.fire(timer_id)
        assert len(server.requests) == 1
    found = row(timer_id)
    assert found["status_code"] == 503
    assert found["outcome"] == (None if retry else "failed")
    assert found["leased_until"] is None


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "delivered"), (500, "failed")]
)
def test_an_answer_that_cannot_be_judged_is_kept(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
    outcome: str,
) -> None:
    monkeypatch.setattr(decisions, "judge", raising(OverflowError("too much")))
    receiver.status = status
    timer_id = new_timer(-1, url=receiver.url())
    fire.fire(timer_id)
    found = row(timer_id)
    assert (found["outcome"], found["status_code"]) == (outcome, status)
    assert found["error"] == "internal: OverflowError: too much"
    assert found["leased_until"] is None
    assert len(attempts(timer_id)) == 1
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("again", [False, True])
def test_what_fails_after_the_request_left_is_unknown(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    # Given a client that fails once the request has left
    send = Call._send

    def fail_late(call: Call) -> Any:
        send(call)
        raise KeyError("lost")

    monkeypatch.setattr(Call, "_send", fail_late)
    timer_id = new_timer(-1, url=receiver.url(), at_least_once=again)

    # When the timer is fired, and once more
    fire.fire(timer_id)
    fire.fire(timer_id)

    # Then it was called once, and nobody will do it again
    assert len(receiver.calls) == 1
    found = row(timer_id)
    assert (found["outcome"], found["leased_until"]) == ("unknown", None)
    assert found["error"] == "internal: KeyError: 'lost'"
    assert found["sent_at"] is not None


def test_what_fails_before_the_request_left_is_tried_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = RuntimeError("can't start new thread")
    with monkeypatch.context() as patch:
        patch.setattr(Call, "_send", raising(failure))
        timer_id = new_timer(-1, url=receiver.url())
        fire.fire(timer_id)
    found = row(timer_id)
    assert (found["outcome"], found["fired_at"]) == (None, None)
    assert found["error"] == "internal: RuntimeError: can't start new thread"
    change(timer_id, "next_at = now()")
    fire.fire(timer_id)
    assert row(timer_id)["outcome"] == "delivered"


def test_what_can_never_be_sent_ends_at_once(receiver: Receiver) -> None:
    timer_id = new_timer(-1, url=receiver.url())
    change(timer_id, "headers = '{\"a b\": \"c\\r\\nd: e\"}'")
    fire.fire(timer_id)
    found = row(timer_id)
    assert found["outcome"] == "failed"
    assert found["error"].startswith("invalid: ")
    assert receiver.calls == []


def test_an_answer_that_cannot_be_recorded_is_not_called_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given that marks wait until a record has failed
    mark_sent, failed = claiming.mark_sent, threading.Event()

    def wait(marks: Sequence[Mark]) -> None:
        assert failed.wait(10)
        mark_sent(marks)

    def fail(reports: Sequence[Report]) -> list[bool]:
        raise LookupError("no such column")

    monkeypatch.setattr(claiming, "mark_sent", wait)
    claims.mark_writer().add(Mark(uuid4(), uuid4(), database_clock()))

    # When a call's record fails
    timer_id = new_timer(-1, url=receiver.url())
    with monkeypatch.context() as patch:
        patch.setattr(recording, "record", fail)
        with pytest.raises(LookupError):
            fire.fire(timer_id)
    failed.set()

    # Then it is marked, and ends by its status with its lease
    eventually(lambda: row(timer_id)["answered"])
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    change(timer_id, "leased_until = now() - interval '1 s'")
    assert dispatcher.take_over() == 1
    assert row(timer_id)["outcome"] == "delivered"
    fire.fire(timer_id)
    assert len(receiver.calls) == 1

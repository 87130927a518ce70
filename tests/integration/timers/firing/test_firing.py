"""Firing a timer in this process: one call, on time, and its outcome."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pytest_django import Settings
from standardwebhooks import Webhook

from apps.broker.memory import MemoryBroker
from apps.broker.middleware import LeaveUnacknowledged
from apps.timers.firing import claims, fire
from apps.timers.storage import claiming, taking_over
from tests.support.postgres_switch import PostgresSwitch
from tests.support.receiver import (
    Connection,
    Receiver,
    Script,
    answering,
    hanging,
    scripted,
)
from tests.support.rows import change, claimed, new_timer, new_timers, row
from tests.support.service import SECRET
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("local_calls")


def fire_in_thread(pool: ThreadPoolExecutor, timer_id: UUID) -> Any:
    return pool.submit(fire.fire, timer_id)


@contextmanager
def call_under_way(receiver: Receiver) -> Iterator[tuple[UUID, Any]]:
    """Give a timer that is marked as sent, and when its worker is done.

    The answer is held back until the receiver's gate is opened.
    """
    receiver.gate.clear()
    timer_id = new_timer(-1, url=receiver.url())
    with ThreadPoolExecutor(1) as thread:
        done = fire_in_thread(thread, timer_id)
        eventually(lambda: row(timer_id)["sent_at"])
        yield timer_id, done


def test_the_receiver_gets_what_the_timer_is(
    receiver: Receiver, settings: Settings
) -> None:
    # Given a timer whose URL has bytes that are easily changed
    path = "/hook/%2f/./x?a=%7e&b=|"
    timer_id = new_timer(-1, url=receiver.url(path))
    stored = row(timer_id)

    # When it is fired
    fire.fire(timer_id)

    # Then the call is the documented one
    (call,) = receiver.calls
    assert call.path == path
    assert call.payload == {
        "id": str(timer_id),
        "type": "timer.expired",
        "timestamp": stored["due_at"].isoformat(),
        "data": {
            "id": str(timer_id),
            "created_at": stored["created_at"].isoformat(),
            "fire_at": stored["due_at"].isoformat(),
        },
    }
    assert call.headers["webhook-id"] == str(timer_id)
    assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 3
    assert Webhook(SECRET).verify(call.body, call.headers) == call.payload
    assert call.headers["timer-due-at"] == stored["due_at"].isoformat()
    assert call.headers["timer-attempt"] == "1"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["user-agent"] == f"timer-service/{settings.VERSION}"
    assert "authorization" not in call.headers
    assert "cookie" not in call.headers


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "delivered"), (204, "delivered"), (299, "delivered"),
     (302, "failed"), (404, "failed"), (500, "failed"), (503, "failed")],
)
def test_an_answer_of_2xx_is_delivered_and_any_other_failed(
    receiver: Receiver, status: int, outcome: str
) -> None:
    receiver.status = status
    timer_id = new_timer(-1, url=receiver.url())
    fire.fire(timer_id)
    found = row(timer_id)
    assert (found["outcome"], found["status_code"]) == (outcome, status)
    assert found["error"] is None
    assert found["leased_until"] is None
    assert found["due_at"] < found["fired_at"] <= found["sent_at"]
    assert len(receiver.calls) == 1


def dropping(connection: Connection) -> None:
    """Read the request, and close."""
    connection.read_request()


@pytest.mark.parametrize(
    ("kind", "is_sent"),
    [("blocked", False), ("timeout", True), ("reset", True),
     ("protocol", True)],
)
def test_a_failure_that_no_later_try_would_mend_is_final(
    kind: str, is_sent: bool, settings: Settings
) -> None:
    # Given a receiver that may not be called, or answers nothing of use
    settings.WEBHOOK_TIMEOUT = 0.5
    scripts: dict[str, Script] = {
        "timeout": hanging,
        "reset": dropping,
        "protocol": answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    }
    with scripted(scripts.get(kind, hanging)) as bad:
        url = "http://10.1.2.3/" if kind == "blocked" else bad.url()
        timer_id = new_timer(-1, url=url)

        # When its timer is fired
        began = time.monotonic()
        fire.fire(timer_id)

    # Then it has failed, by the deadline, and says how
    assert time.monotonic() - began < 3 * PATIENCE
    found = row(timer_id)
    assert (found["outcome"], found["status_code"]) == ("failed", None)
    assert found["error"].startswith(f"{kind}: ")
    assert (found["sent_at"] is not None) == is_sent
    assert found["connect_failures"] == 0
    assert bad.accepted == is_sent


def test_a_message_that_comes_twenty_times_makes_one_call(
    receiver: Receiver,
) -> None:
    # Given a timer, and a receiver that takes a while
    receiver.delay = 0.1
    timer_id = new_timer(-1, url=receiver.url())
    start = threading.Barrier(20)

    def deliver(_: int) -> None:
        start.wait()
        fire.fire(timer_id)

    # When its message arrives twenty times, and once more afterwards
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(deliver, range(20)))
    fire.fire(timer_id)

    # Then it was called once
    assert receiver.counts() == {str(timer_id): 1}
    assert row(timer_id)["claims"] == 1


def test_what_is_no_timer_or_has_ended_is_passed_over(
    receiver: Receiver,
) -> None:
    ended = new_timer(-1, url=receiver.url())
    change(ended, "outcome = 'failed'")
    for timer_id in (ended, uuid4()):
        fire.fire(timer_id)
    assert receiver.calls == []


def test_a_claim_within_the_lead_waits_for_its_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a lead of three seconds, and timers due in half of it
    monkeypatch.setattr(claiming, "LEAD", timedelta(seconds=3))
    timers = new_timers(8, 1.5, url=receiver.url())

    # When they are fired at once
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fire.fire, timers))

    # Then none is called early
    assert len(receiver.calls) == 8
    assert min(call.late for call in receiver.calls) >= 0
    for timer_id in timers:
        found = row(timer_id)
        assert found["fired_at"] == found["due_at"] <= found["sent_at"]


def test_a_message_that_is_early_goes_back(
    receiver: Receiver, memory_broker: MemoryBroker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given timers that are due within the horizon, and beyond it
    near, far = (new_timer(seconds, queued=True) for seconds in (30, 90))

    # When their messages arrive
    fire.fire(near)
    fire.fire(far)

    # Then the one waits on, and the other is left to the dispatcher
    assert memory_broker.known(str(near))
    assert memory_broker.depth("timers") == 0
    assert not memory_broker.known(str(far))
    assert row(near)["queued_at"] is not None
    assert row(far)["queued_at"] is None
    assert [row(each)["fired_at"] for each in (near, far)] == [None, None]
    assert {each.getMessage() for each in caplog.records} == {
        "timer came early; it waits on"
    }
    assert receiver.calls == []


def test_while_it_is_called_a_timer_is_marked_as_sent(
    receiver: Receiver,
) -> None:
    # Given a receiver that does not answer yet
    receiver.gate.clear()
    timer_id = new_timer(-1, url=receiver.url())
    with ThreadPoolExecutor(1) as thread:
        # When the request has left
        done = fire_in_thread(thread, timer_id)
        marked = eventually(lambda: row(timer_id)["sent_at"])
        assert row(timer_id)["outcome"] is None

        # Then the mark says when, as does the record
        receiver.gate.set()
        done.result()
    assert row(timer_id)["sent_at"] == marked
    assert row(timer_id)["outcome"] == "delivered"


def test_an_answer_that_is_quicker_than_the_mark_discards_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given marks that are slow to be written
    written: list[int] = []
    gate = threading.Event()

    def mark_slowly(marks: list[Any]) -> None:
        written.append(len(marks))
        gate.wait(10)

    monkeypatch.setattr(claiming, "mark_sent", mark_slowly)

    # When ten timers are answered while the first mark is written
    for timer_id in new_timers(10, -1, url=receiver.url()):
        fire.fire(timer_id)
    eventually(lambda: written)
    gate.set()

    # Then the others' marks are not written at all
    assert claims.mark_writer()._waiting == {}
    assert sum(written) <= 2
    assert len(receiver.calls) == 10


def test_the_log_tells_of_each_outcome_in_one_line(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "apps")
    timer_id = new_timer(-1, url=receiver.url("/secret-path"))
    fire.fire(timer_id)
    (line,) = caplog.records
    assert line.getMessage() == "timer delivered"
    details = vars(line)
    assert (details["timer"], details["status"]) == (timer_id, 200)
    assert 1000 <= details["late_ms"] < 10_000
    assert "secret-path" not in str(details)


def test_a_claim_taken_over_during_the_call_is_not_recorded(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a call under way whose claim has come to be another's
    caplog.set_level(logging.INFO, "apps")
    receiver.gate.clear()
    timer_id = new_timer(-1, url=receiver.url())
    with ThreadPoolExecutor(1) as thread:
        done = fire_in_thread(thread, timer_id)
        eventually(lambda: receiver.calls)
        eventually(lambda: row(timer_id)["sent_at"])
        change(timer_id, "claim_token = NULL, fired_at = NULL")
        other = claimed(timer_id)

        # When it is answered
        receiver.gate.set()
        done.result()

    # Then the other's claim stands, and the log says so
    assert row(timer_id)["claim_token"] == other.token
    assert row(timer_id)["outcome"] is None
    assert vars(caplog.records[-1])["recorded"].startswith("no")


# --- Postgres away --------------------------------------------------------


def test_a_claim_waits_while_postgres_is_away(
    receiver: Receiver,
    postgres: PostgresSwitch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a timer, and no Postgres
    timer_id = new_timer(-1, url=receiver.url())
    postgres.goes_away()
    with ThreadPoolExecutor(1) as thread:
        done = fire_in_thread(thread, timer_id)
        eventually(lambda: "trying again" in caplog.text)

        # When it is back, Then the timer fires
        assert not done.done()
        postgres.comes_back()
        done.result(10)
    assert receiver.counts() == {str(timer_id): 1}
    assert row(timer_id)["outcome"] == "delivered"


@pytest.mark.parametrize("is_to_stop", [False, True])
def test_a_record_waits_while_postgres_is_away(
    receiver: Receiver,
    postgres: PostgresSwitch,
    caplog: pytest.LogCaptureFixture,
    is_to_stop: bool,
) -> None:
    # Given a call under way, when Postgres goes
    with call_under_way(receiver) as (timer_id, done):
        postgres.goes_away()
        receiver.gate.set()
        eventually(lambda: "trying again" in caplog.text)
        if is_to_stop:
            claims.stopping.set()
            with pytest.raises(TimeoutError):
                done.result(1)

        # When it is back, Then the answer is recorded, with no second call
        postgres.comes_back()
        done.result(10)
    assert receiver.counts() == {str(timer_id): 1}
    assert row(timer_id)["outcome"] == "delivered"


def test_what_is_not_recorded_before_the_end_is_said(
    receiver: Receiver,
    postgres: PostgresSwitch,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a call under way, when Postgres goes
    monkeypatch.setattr(claims, "_LAST_WORD", 0.3)
    with call_under_way(receiver) as (timer_id, done):
        postgres.goes_away()

        # And the process is to stop before it comes back
        claims.stopping.set()
        receiver.gate.set()
        with pytest.raises(LeaveUnacknowledged):
            done.result(10)

    # Then it says whose answers are lost
    (said,) = (r for r in caplog.records if "is not kept" in r.message)
    assert vars(said)["timers"] == [str(timer_id)]


def test_a_process_that_stops_leaves_its_message(
    receiver: Receiver,
    postgres: PostgresSwitch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a claim that waits for Postgres
    timer_id = new_timer(-1, url=receiver.url())
    postgres.goes_away()
    with ThreadPoolExecutor(1) as thread:
        done = fire_in_thread(thread, timer_id)
        eventually(lambda: "trying again" in caplog.text)
        assert not done.done()

        # When the process is to stop
        claims.stopping.set()

        # Then the message is neither done nor rejected
        with pytest.raises(LeaveUnacknowledged):
            done.result(5)
    postgres.comes_back()
    assert row(timer_id)["fired_at"] is None


def test_a_process_that_stops_still_records_when_it_can(
    receiver: Receiver,
) -> None:
    receiver.gate.clear()
    timer_id = new_timer(-1, url=receiver.url())
    with ThreadPoolExecutor(1) as thread:
        done = fire_in_thread(thread, timer_id)
        eventually(lambda: receiver.calls)
        claims.stopping.set()
        receiver.gate.set()
        done.result(5)
    assert row(timer_id)["outcome"] == "delivered"


def test_a_second_send_is_signed_anew(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a timer that was sent, and whose worker then died
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    timer_id = new_timer(-1, url=receiver.url(), at_least_once=True)
    fire.fire(timer_id)
    change(timer_id, "outcome = NULL, leased_until = now()")
    assert taking_over.take_over(limit=9) == [(timer_id, None)]
    sent_at = int(receiver.calls[0].headers["webhook-timestamp"])
    eventually(lambda: time.time() > sent_at + 1)

    # When it is sent again
    fire.fire(timer_id)

    # Then it is the same webhook, at another time
    first, second = (call.headers for call in receiver.calls)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) > sent_at
    assert first["webhook-signature"] != second["webhook-signature"]
    assert (first["timer-attempt"], second["timer-attempt"]) == ("1", "2")
    Webhook(SECRET).verify(receiver.calls[1].body, second)


def test_times_in_the_payload_are_utc(receiver: Receiver) -> None:
    timer_id = new_timer(-1, url=receiver.url())
    fire.fire(timer_id)
    due = datetime.fromisoformat(receiver.calls[0].payload["timestamp"])
    assert due.utcoffset() == timedelta(0)

"""GET /timer/{id}/explain: a timer and its receiver."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from pytest_django import Settings

from apps.timers.firing import call, fire
from apps.webhooks.destination import HUNG_IN_A_ROW
from apps.webhooks.retry import RetryPolicy
from apps.webhooks.target import parse_target
from tests.support.explained import comes, explained, happened, plain, summary
from tests.support.receiver import Receiver
from tests.support.rows import change, new_timer, row

pytestmark = pytest.mark.usefixtures("local_calls")

RETRY = RetryPolicy(3, 10, 3600, unanswered=False)


def wait(timer_id: UUID) -> None:
    """Have a timer wait for longer than this test takes."""
    assert not row(timer_id)["fired_at"]
    change(timer_id, "next_at = next_at + interval '20 s'")


def test_its_host_has_its_share(receiver: Receiver) -> None:
    # Given a host that has all calls that it may have
    target = parse_target(receiver.url())
    origin = target.host, target.port
    while call.destinations().enter(origin) is None:
        pass

    # When another timer for it fires
    timer_id = new_timer(-1, url=receiver.url())
    fire.fire(timer_id)

    # Then it is put off, and says why
    assert row(timer_id)["deferred"]
    wait(timer_id)
    assert re.fullmatch(
        r"It is put off because its host has its share of calls: \d+ calls to"
        r" HOST are under way, its share\. It is called again at T, in N\. It"
        r" waits in Postgres\.",
        summary(timer_id),
    )
    assert comes(timer_id) == ("next_at", "It is called again.")
    assert happened(timer_id)[1] == (
        "put off", "Its host had its share of calls, or did not answer: it"
                   " was put off until T."
    )

    # When it is called at last, that is told as well
    call.destinations().leave(origin, hung=False)
    change(timer_id, "next_at = now()")
    fire.fire(timer_id)
    assert {"set", "put off", "answered"} == {
        what for what, _ in happened(timer_id)
    }


def test_its_host_hangs(receiver: Receiver) -> None:
    # Given a host that has not answered the last calls
    target = parse_target(receiver.url())
    origin = target.host, target.port
    for _ in range(HUNG_IN_A_ROW):
        assert call.destinations().enter(origin) is None
        call.destinations().leave(origin, hung=True)

    # When timers for it fire
    given = (None, "it ends as failed"), (RETRY, "`retry` decides")
    for retry, after in given:
        timer_id = new_timer(-1, url=receiver.url(), retry=retry)
        fire.fire(timer_id)
        wait(timer_id)

        # Then they wait, for so long
        assert summary(timer_id) == (
            "It is put off because its host does not answer: the last 5 calls"
            " to HOST got no answer. It is tried until T; if it can't be sent"
            f" by then, {after}. It is called again at T, in N. It waits in"
            " Postgres."
        )


def test_a_503_with_retry_after(receiver: Receiver) -> None:
    receiver.status, receiver.headers = 503, {"Retry-After": "300"}
    timer_id = new_timer(-1, url=receiver.url(), retry=RETRY)
    fire.fire(timer_id)
    assert summary(timer_id) == (
        "Attempt 1 was answered 503. `retry` allows 3 calls in all; 1 was"
        " made. The wait of N is longer than `retry` makes it: the receiver"
        " has probably asked for that with Retry-After. It is called again at"
        " T, in N. It waits in Postgres."
    )
    assert "The wait of 5 min is longer" in explained(timer_id)["summary"]
    assert comes(timer_id) == ("next_at", "It is called again.")

    # When it did not ask for that, it is not said to have done so
    receiver.headers = {}
    timer_id = new_timer(-1, url=receiver.url(), retry=RETRY)
    fire.fire(timer_id)
    assert summary(timer_id) == (
        "Attempt 1 was answered 503. `retry` allows 3 calls in all; 1 was"
        " made. It is called again at T, in N. It waits in Postgres."
    )


def test_nobody_listens(absent: Receiver) -> None:
    timer_id = new_timer(-1, url=absent.url())
    fire.fire(timer_id)
    change(timer_id, "next_at = now()")
    fire.fire(timer_id)
    wait(timer_id)
    assert re.fullmatch(
        r"Attempt 2 could not be sent: refused: .*\. It is tried until T; if"
        r" it can't be sent by then, it ends as failed\. It is called again at"
        r" T, in N\. It waits in Postgres\.",
        summary(timer_id),
    )
    assert [what for what, _ in happened(timer_id)] == [
        "set", "not sent", "not sent"
    ]
    until = row(timer_id)["retry_until"]
    assert until.isoformat()[:22] in explained(timer_id)["summary"]


def test_a_timer_that_was_delivered_late(receiver: Receiver) -> None:
    # Given a timer that was set, and then nothing ran for two hours
    timer_id = new_timer(-7200, url=receiver.url())
    change(timer_id, "created_at = due_at - interval '1 h'")
    fire.fire(timer_id)
    found = explained(timer_id)
    assert found["summary"].endswith(", 2 h after the timer's time.")
    assert plain(found["events"][-1]["detail"]) == (
        "Attempt 1 was answered 200. It took N. The request had left N after"
        " its time. It waited from T to T: the service, Postgres or RabbitMQ"
        " was down or had too much to do, or the connection took that long."
    )


@pytest.mark.parametrize(
    ("retry", "status", "said"),
    [
        (None, 500, "Without `retry`, any answer is final."),
        (RETRY, 410, "With 410 a receiver says that it wants no more calls."),
        (RetryPolicy(2, 0, 0, unanswered=False), 500,
         "`retry` allows 2 calls in all, and all were made."),
    ],
)
def test_a_timer_that_failed(
    receiver: Receiver, retry: RetryPolicy | None, status: int, said: str
) -> None:
    receiver.status = status
    timer_id = new_timer(-1, url=receiver.url(), retry=retry)
    fire.fire(timer_id)
    fire.fire(timer_id)  # where that is allowed
    assert summary(timer_id) == (
        f"It failed: its receiver answered {status}. {said} It can be"
        " replayed."
    )


def test_a_timer_whose_receiver_does_not_answer(
    receiver: Receiver, settings: Settings
) -> None:
    settings.WEBHOOK_TIMEOUT = 0.2
    receiver.gate.clear()
    timer_id = new_timer(-1, url=receiver.url())
    fire.fire(timer_id)
    receiver.gate.set()
    assert re.fullmatch(
        r"It failed: timeout: .*\. The receiver may have acted on it\. It can"
        r" be replayed\.",
        summary(timer_id),
    )


def test_a_timer_that_was_missed() -> None:
    timer_id = new_timer(-10, max_lateness=timedelta(seconds=1))
    assert summary(timer_id) == (
        "It has been overdue since T, for N. No worker has taken it yet. No"
        " worker is known to run. `max_lateness` allowed a call until T: it"
        " ends as missed when a worker takes it."
    )
    fire.fire(timer_id)
    assert summary(timer_id) == (
        "It was missed: it could not be called in time, and was not called."
        " `max_lateness` allowed that until T. It can be replayed."
    )

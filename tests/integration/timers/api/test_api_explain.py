"""GET /timer/{id}/explain: each situation, brought about for real."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from apps.broker.rabbitmq import LadderBroker
from apps.core.database import pool
from apps.monitoring import processes
from apps.monitoring.heartbeat import Sign
from apps.timers import decisions
from apps.timers.firing import call, fire
from apps.timers.models import Outcome
from apps.timers.scheduling import dispatcher
from apps.timers.storage import (
    claiming,
    explaining,
    queueing,
    recording,
    taking_over,
)
from apps.timers.storage.records import Mark
from apps.webhooks.fairness import HUNG_IN_A_ROW
from apps.webhooks.retry import RetryPolicy
from apps.webhooks.target import parse_target
from tests.support.api import create
from tests.support.ports import free_port
from tests.support.receiver import AbsentReceiver, Receiver
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    new_timer,
    report,
    row,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("local_calls")

RETRY = RetryPolicy(3, 10, 3600, unanswered=False)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_SPAN = re.compile(
    r"\b\d+ (?:day|days|h|min|s|ms)\b(?: \d+ (?:h|min|s)\b)?"
)
_PORT = re.compile(r"127\.0\.0\.1:\d+")


def plain(text: str) -> str:
    """Return a text in which T stands for each moment, N for a duration."""
    return _PORT.sub("HOST", _SPAN.sub("N", _MOMENT.sub("T", text)))


def explained(timer_id: object) -> dict[str, Any]:
    client = Client(raise_request_exception=False)
    answer = client.get(f"/timer/{timer_id}/explain")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    assert set(found) == {"summary", "events", "next"}
    return found


def summary(timer_id: object) -> str:
    return plain(explained(timer_id)["summary"])


def happened(timer_id: object) -> list[tuple[str, str]]:
    events = explained(timer_id)["events"]
    assert events == sorted(events, key=lambda each: each["at"])
    return [(each["what"], plain(each["detail"])) for each in events]


def comes(timer_id: object) -> tuple[str, str]:
    """Return which column of the row has the time of what comes next."""
    then = explained(timer_id)["next"]
    found = row(UUID(str(timer_id)))
    names = [
        name for name in ("next_at", "leased_until")
        if found[name] and found[name].isoformat(timespec="milliseconds")
        == then["at"].replace("Z", "+00:00")
    ]
    return names[0], plain(then["what"])


def ask(method: str, path: str, **body: Any) -> None:
    """Have the API do something, and let it succeed."""
    client = Client(raise_request_exception=False)
    answer = client.generic(
        method, path, json.dumps(body) if body else "",
        content_type="application/json",
    )
    assert answer.status_code < 300, answer.content


def takes_over(timer_id: UUID, outcome: Outcome | None) -> None:
    """Let a claim's lease end, and a dispatcher find that."""
    change(timer_id, "leased_until = now() - interval '1 s'")
    assert taking_over.take_over(limit=9) == [(timer_id, outcome)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over soon after a start of Postgres."""
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))


# --- it waits ----------------------------------------------------------------


def test_a_timer_that_was_just_set() -> None:
    timer_id = create(minutes=10).json()["id"]
    assert summary(timer_id) == (
        "It is called at T, in N. It waits in Postgres."
    )
    assert happened(timer_id) == [("set", "It was set for T.")]
    assert comes(timer_id) == ("next_at", "It is called.")


def test_all_that_callers_can_do_is_told(receiver: Receiver) -> None:
    # Given a timer that was moved, changed, and fired now
    timer_id = UUID(create(minutes=9).json()["id"])
    path = f"/timer/{timer_id}"
    change(timer_id, f"url = '{receiver.url()}'")
    ask("PATCH", path, hours=0, minutes=30, seconds=0)
    ask("PATCH", path, hours=0, minutes=20, seconds=0)
    assert summary(timer_id) == (
        "It is called at T, in N. It waits in Postgres. It was moved twice,"
        " the last time from T to T."
    )
    ask("PATCH", path, labels={"user": "17"})
    ask("POST", f"{path}/fire")

    # When it fails, is replayed, and is cancelled before it is called again
    receiver.status = 500
    fire.fire(timer_id)
    ask("POST", f"{path}/replay")
    assert summary(timer_id) == (
        "It was replayed at T. It is due: a worker takes it in this second."
        " It was moved 3 times, the last time from T to T."
    )
    ask("DELETE", path)

    # Then all of it is told, and counted by the timer's version
    assert happened(timer_id) == [
        ("set", "It was set for T."),
        ("moved", "It was moved from T to T, N later."),
        ("moved", "It was moved from T to T, N earlier."),
        ("changed", "What it calls was changed."),
        ("fired now", "A caller asked for it to be called at once, in place"
                      " of T."),
        ("answered", "Attempt 1 was answered 500. It took N. The request had"
                     " left N after its time."),
        ("replayed", "It had given up, and was to be called again."),
        ("cancelled", "It was cancelled: it is not called after that."),
    ]
    assert summary(timer_id) == (
        "It was cancelled at T; it is not called again. Attempt 1 was"
        " answered 500."
    )
    assert explained(timer_id)["next"] is None
    history = explaining.history(timer_id)
    assert history is not None
    assert history.timer.version - 1 == len(history.events) == 6


def test_a_timer_that_is_moved_to_where_it_was() -> None:
    timer_id = create(minutes=9).json()["id"]
    for _ in range(2):
        ask("PATCH", f"/timer/{timer_id}",
            fire_at=(database_clock() - timedelta(minutes=1)).isoformat())
    assert [what for what, _ in happened(timer_id)] == [
        "set", "moved", "moved"
    ]


def test_a_timer_by_key_that_is_put_again() -> None:
    path = "/timer/by-key/order-17"
    body = {"hours": 1, "minutes": 0, "seconds": 0,
            "url": "https://example.com/"}
    ask("PUT", path, **body)
    ask("PUT", path, **body | {"if_exists": "extend", "hours": 2})
    timer_id = Client().get(path).json()["id"]
    assert [what for what, _ in happened(timer_id)] == ["set", "moved"]
    ask("PUT", path, **body)
    assert happened(timer_id)[2:] == [
        ("changed", "What it calls was changed. It was moved from T to T, N"
                    " earlier."),
    ]


def test_a_message_in_rabbitmq(settings: Settings) -> None:
    settings.RABBITMQ_URL = "amqp://127.0.0.1:9"
    timer_id = new_timer(30, queued=True)
    assert summary(timer_id) == (
        "It is called at T, in N. A message for it has been in RabbitMQ since"
        " T."
    )
    assert happened(timer_id)[1:] == [
        ("queued", "A message for it was sent to RabbitMQ."),
    ]


@pytest.mark.rabbitmq
def test_rabbitmq_is_away(
    use_rabbitmq: Callable[[str], LadderBroker],
) -> None:
    # Given a near timer, while RabbitMQ is away, and a dispatcher says so
    use_rabbitmq(f"amqp://127.0.0.1:{free_port()}")
    timer_id = UUID(create(seconds=40).json()["id"])
    eventually(lambda: row(timer_id)["queued_at"] is None)
    (trouble,) = dispatcher.run_once().troubles
    processes.Notice("dispatcher").write(Sign(trouble=trouble))

    # When it has waited for longer than a dispatcher needs
    change(timer_id, "created_at = created_at - interval '9 s'")

    # Then it is told what is missing, and why
    assert summary(timer_id) == (
        "It is called at T, in N. RabbitMQ should have had a message for it"
        " since T, and has none. A dispatcher reports: RabbitMQ can't be"
        " reached."
    )

    # When its time has passed, and the dispatcher is silent
    change(timer_id, "due_at = now() - interval '9 s'")
    change(timer_id, "next_at = due_at")
    with pool().connection() as connection:
        connection.execute(
            "UPDATE process SET seen_at = now() - interval '1 h'"
        )
    assert summary(timer_id) == (
        "It has been overdue since T, for N. RabbitMQ has no message for it:"
        " the dispatcher or RabbitMQ is away, or RabbitMQ has enough messages"
        " of overdue timers. No dispatcher has been heard of since T. No"
        " worker is known to run."
    )
    assert comes(timer_id) == ("next_at", "RabbitMQ gets a message for it.")


def test_a_message_that_no_worker_took(settings: Settings) -> None:
    settings.RABBITMQ_URL = "amqp://127.0.0.1:9"
    processes.Notice("dispatcher").write(Sign())
    processes.Notice("worker").write(Sign())

    # Given a timer whose message was lost, and one that was just sent again
    timer_id = new_timer(-10, queued=True)
    change(timer_id, "queued_at = now() - interval '40 s'")
    assert queueing.lost(idle=True, limit=9)

    # Then it is told when the next message is sent, if that is lost as well
    assert summary(timer_id) == (
        "It has been overdue since T, for N. A message for it was sent to"
        " RabbitMQ at T, and no worker has taken it: others come first, or"
        " the message was lost."
    )
    queued_at = row(timer_id)["queued_at"]
    then = explained(timer_id)["next"]
    assert then["what"] == (
        "If no worker has taken it by then, another message is sent for it."
    )
    expected = queued_at + queueing.REQUEUE_IDLE
    assert then["at"][:22] == expected.isoformat()[:22]


def test_no_worker_runs() -> None:
    timer_id = new_timer(-7200, max_lateness=timedelta(hours=3))
    said = (
        "It has been overdue since T, for N. No worker has taken it yet.{}"
        " If it can't be called by T, it ends as missed."
    )
    assert summary(timer_id) == said.format(" No worker is known to run.")

    # When a worker runs, it is not blamed
    notice = processes.Notice("worker")
    notice.write(Sign())
    assert summary(timer_id) == said.format("")
    assert comes(timer_id) == ("next_at", "A worker takes it.")


# --- it waits for its receiver -----------------------------------------------


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
    assert _SPAN.sub("N", explained(timer_id)["summary"]).startswith(
        "Attempt 1 was answered 503. `retry` allows 3 calls in all; 1 was"
        " made. The wait of N is longer than `retry` makes it: the receiver"
        " asked for that with Retry-After. It is called again at 2"
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


def test_nobody_listens(absent: AbsentReceiver) -> None:
    timer_id = new_timer(-1, url=absent.url())
    fire.fire(timer_id)
    change(timer_id, "next_at = now()")
    fire.fire(timer_id)
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


# --- a worker has it ---------------------------------------------------------


def test_a_claim_from_its_start_to_its_end() -> None:
    start = "A worker claimed it at T, to call it (attempt 1). "
    rest = " The worker has until T to report or to ask for more time."
    if_not = "If the worker has not reported by then, "

    # Given a timer that is claimed
    claim = claimed(new_timer(-1))
    assert summary(claim.id) == (
        f"{start}As far as is known, its request has not left.{rest}"
    )
    assert comes(claim.id) == (
        "leased_until", f"{if_not}the timer is called again at once."
    )

    # When its request has left
    claiming.mark_sent([Mark(claim.id, claim.token, database_clock())])
    assert summary(claim.id) == (
        f"{start}The request had left at T; there is no answer yet.{rest}"
    )
    assert comes(claim.id)[1] == (
        f"{if_not}the timer ends as unknown: the request is not sent again."
    )
    assert happened(claim.id)[1:] == [
        ("claimed", "A worker claimed it for attempt 1."),
        ("sent", "The request of attempt 1 had left."),
    ]

    # When its answer has begun
    claiming.mark_sent([Mark(claim.id, claim.token, None, 200)])
    assert summary(claim.id) == (
        f"{start}The receiver has answered 200; that is not recorded yet."
        f"{rest}"
    )
    assert comes(claim.id)[1] == (
        f"{if_not}the answer 200 decides what follows."
    )

    # When it is recorded
    recording.record([report(claim)])
    assert summary(claim.id) == (
        "It was delivered: its receiver answered 200. The request had left at"
        " T, N after the timer's time."
    )
    assert explained(claim.id)["next"] is None


def test_a_worker_died_before_the_call() -> None:
    # Given a worker that says nothing
    timer_id = claimed(new_timer(-0.1)).id
    change(timer_id, "leased_until = now() - interval '3 s'")
    assert summary(timer_id) == (
        "A worker claimed it at T, to call it (attempt 1). As far as is known,"
        " its request has not left. Its worker had until T to report, and did"
        " not: it died or is cut off. The claim has been over for N; it is"
        " ended within seconds, but not in the first N after Postgres was"
        " away. No worker is known to run."
    )
    assert comes(timer_id)[1] == (
        "The claim is ended: the timer is called again at once."
    )

    # When its claim is ended
    takes_over(timer_id, None)
    assert summary(timer_id).startswith(
        "Attempt 1: its worker died before the call. Its claim was ended, and"
        " another worker may take it. It "
    )
    assert happened(timer_id)[1:] == [
        ("worker lost", "Attempt 1: its worker died before the call."),
    ]


def test_each_worker_died() -> None:
    timer_id = new_timer(-1)
    for _ in range(taking_over.MOST_REOPENINGS):
        claimed(timer_id)
        takes_over(timer_id, None)
    claimed(timer_id)
    assert comes(timer_id)[1].endswith(
        "the timer ends as failed: it lost too many workers."
    )
    takes_over(timer_id, Outcome.FAILED)
    assert summary(timer_id) == (
        "It failed: worker_lost: 6 workers died before the call. The timer may"
        " be what makes workers die; it was not sent. It can be replayed."
    )


def test_a_worker_died_after_the_request_had_left() -> None:
    # Given two timers whose workers died in the call
    once, again = (
        claimed(new_timer(-1, at_least_once=repeats))
        for repeats in (False, True)
    )
    for claim in once, again:
        claiming.mark_sent([Mark(claim.id, claim.token, database_clock())])
    takes_over(once.id, Outcome.UNKNOWN)
    takes_over(again.id, None)

    # Then one is not sent again, the other is
    assert summary(once.id) == (
        "Nobody knows what came of it. The request had left at T. No answer"
        " was recorded: the worker died after the request had left. The"
        " receiver may have acted on it, or not. It is not sent again. It can"
        " be replayed."
    )
    assert summary(again.id).startswith(
        "Attempt 1: its worker died after the request had left. Its claim was"
        " ended, and another worker may take it. It "
    )


def test_a_worker_died_after_the_status() -> None:
    claim = claimed(new_timer(-1))
    claiming.mark_sent([Mark(claim.id, claim.token, database_clock(), 204)])
    change(claim.id, "leased_until = now() - interval '1 s'")
    found = [
        decisions.of_the_dead(each) for each in taking_over.answered(limit=9)
    ]
    recording.record_for_the_dead(found)  # type: ignore[arg-type]
    assert summary(claim.id).startswith(
        "It was delivered: its receiver answered 204."
    )


# --- it has ended ------------------------------------------------------------


def test_a_timer_that_was_delivered_late(receiver: Receiver) -> None:
    timer_id = new_timer(-7200, url=receiver.url())
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


# --- how it is read ----------------------------------------------------------


def fill_events(timer_id: UUID, count: int) -> None:
    """Add moves as a caller would make them in days; far more than read."""
    with pool().connection() as connection:
        connection.execute(
            "INSERT INTO event (timer_id, at, what, old_at, new_at)"
            " SELECT %s, now() + n * interval '1 ms', 'moved',"
            "        now() + n * interval '1 s',"
            "        now() + (n + 1) * interval '1 s'"
            " FROM generate_series(1, %s) AS n",
            [timer_id, count],
        )
        connection.execute("ANALYZE event")
    change(timer_id, f"version = version + {count}")


def plan(query: str, **values: Any) -> str:
    with pool().connection() as connection:
        rows: Sequence[Any] = connection.execute(
            f"EXPLAIN {query}", values
        ).fetchall()
    return "\n".join(text for (text,) in rows)


def test_of_a_timer_that_was_moved_for_ever_little_is_read() -> None:
    # Given a timer that was moved very often, among others
    timer_id, other = new_timer(600), new_timer(600)
    fill_events(other, 20_000)
    fill_events(timer_id, 20_000)

    # When it is explained, Then the middle is left out, and counted
    found = explained(timer_id)
    assert len(found["events"]) == 2 * explaining.MOST + 2
    assert "Callers changed it 20,000 times" in found["summary"]
    assert [
        each["detail"] for each in found["events"]
        if each["what"] == "left out"
    ] == ["Here 19,900 more changes are left out."]

    # Then only what is told was read
    scans = plan(explaining.EVENTS, id=timer_id, most=explaining.MOST)
    assert scans.count("event_timer") == 2, scans
    assert "Seq Scan" not in scans


def test_there_is_no_such_timer(client: Client) -> None:
    answer = client.get(f"/timer/{uuid4()}/explain")
    assert answer.status_code == 404
    assert "There is no timer" in answer.json()["detail"]


def test_a_query_parameter_is_refused(client: Client) -> None:
    answer = client.get(f"/timer/{new_timer(9)}/explain?verbose=1")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "verbose"


def test_events_that_cannot_be_read_are_told_all_the_same() -> None:
    # Given events with moments that Python has not
    timer_id = new_timer(600)
    with pool().connection() as connection:
        connection.execute(
            "INSERT INTO event (timer_id, at, what, old_at, new_at) VALUES"
            " (%(id)s, 'infinity', 'moved', '-infinity', 'infinity'),"
            " (%(id)s, '-infinity', 'odd', now(), '0044-03-15 12:00 BC'),"
            " (%(id)s, now(), 'moved', 'epoch', '9999-12-31')",
            {"id": timer_id},
        )
    assert [what for what, _ in happened(timer_id)] == [
        "odd", "set", "moved", "moved"
    ]

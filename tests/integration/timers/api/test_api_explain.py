"""GET /timer/{id}/explain while a timer waits, and how it is read."""

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
from apps.timers.explain import past, waiting
from apps.timers.firing import fire
from apps.timers.scheduling import dispatcher
from apps.timers.storage import explaining, queueing
from tests.support.accounts import OWNER
from tests.support.api import create
from tests.support.explained import ask, comes, explained, happened, summary
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.rows import change, database_clock, new_timer, row
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("local_calls")


def test_a_timer_that_was_just_set() -> None:
    timer_id = create(minutes=10).json()["id"]
    assert summary(timer_id) == (
        "It is called at T, in N. It waits in Postgres."
    )
    assert happened(timer_id) == [("set", "It was set for T.")]
    assert comes(timer_id) == ("next_at", "It is called.")


def test_all_that_callers_can_do_is_told(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may be late; that has tests of its own.
    for module in (past, waiting):
        monkeypatch.setattr(module, "OVERDUE_AFTER", timedelta(minutes=1))

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
    history = explaining.history(OWNER, timer_id)
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

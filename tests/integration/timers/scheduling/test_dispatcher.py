"""The dispatcher's pass, against a RabbitMQ virtual host without messages."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import dramatiq
import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from apps.broker.memory import MemoryBroker
from apps.broker.rabbitmq import LadderBroker
from apps.core import database
from apps.core.outages import Outage
from apps.timers import services
from apps.timers.management.commands.dispatch_timers import _run
from apps.timers.scheduling import dispatcher, publishing
from apps.timers.scheduling.dispatcher import Pass
from apps.timers.storage import claiming, queueing, taking_over
from apps.timers.storage.claim_records import Mark
from apps.timers.storage.records import Definition, DueMessage
from tests.support.accounts import OWNER
from tests.support.ports import free_port
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rabbitmq import Management
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    new_timer,
    new_timers,
    row,
)
from tests.support.waiting import eventually

VHost = tuple[str, Management]
Use = Callable[[str], LadderBroker]

pytestmark = pytest.mark.rabbitmq


class Refused(Exception):
    """RabbitMQ did not take the message."""


def queued(timer_id: UUID) -> bool:
    return row(timer_id)["queued_at"] is not None


def queued_ago(timers: Sequence[UUID], seconds: int) -> None:
    """Let timers have been queued so long ago, however slow the machine is."""
    for timer_id in timers:
        change(timer_id, f"queued_at = now() - interval '{seconds} s'")


def recover() -> str:
    output = StringIO()
    call_command("recover_timers", stdout=output)
    return output.getvalue().strip()


def drain(broker: LadderBroker, queue: str) -> list[str]:
    """Take all of a queue's messages; return the timers that they name."""
    found = []
    consumer = broker.consume(queue, prefetch=1000, timeout=500)
    for message in consumer:
        if message is None:
            break
        found.append(str(message.args[0]))
        consumer.ack(message)
    consumer.close()
    return found


def test_a_pass_knows_the_backlog(ladder: LadderBroker) -> None:
    new_timers(3, -5)
    assert dispatcher.run_once().backlog == 0
    found = eventually(lambda: dispatcher.run_once().backlog)
    assert found == 3


def test_a_pass_queues_what_is_near_and_what_is_overdue(
    ladder: LadderBroker,
) -> None:
    # Given timers that are overdue, near and far
    overdue = new_timers(2, -5)
    near = new_timers(3, 3)
    far = new_timer(90)

    # When a pass is done, Then it says what it did
    assert dispatcher.run_once() == Pass(overdue=2, near=3)
    assert [queued(each) for each in (*overdue, *near, far)] == (
        [True] * 5 + [False]
    )

    # And each is in the queue of its kind, when its time has come
    eventually(lambda: ladder.depth("timers.overdue") == 2)
    assert ladder.depth("timers") == 0
    eventually(lambda: ladder.depth("timers") == 3)
    assert sorted(drain(ladder, "timers")) == sorted(map(str, near))
    assert sorted(drain(ladder, "timers.overdue")) == sorted(map(str, overdue))

    # And the next pass finds nothing to do
    queued_ago([*overdue, *near], 0)
    assert dispatcher.run_once() == Pass()


def test_no_more_is_overdue_in_rabbitmq_than_keeps_workers_busy(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more overdue timers than that
    batch = dispatcher._BATCH
    monkeypatch.setattr(dispatcher, "_ENOUGH", batch)
    new_timers(2 * batch + 1, -5)

    # When a pass has queued enough of them
    assert recover().startswith(f"Queued {batch} timers: {batch} overdue")
    eventually(lambda: ladder.depth("timers.overdue") == batch)

    # Then the next ones queue what is near alone, and say so
    new_timer(5)
    assert dispatcher.run_once() == Pass(near=1, more=True)
    assert recover().endswith("the workers go on.")

    # And once workers have taken some, the others follow
    drain(ladder, "timers.overdue")
    assert dispatcher.run_once() == Pass(overdue=batch, more=True)
    drain(ladder, "timers.overdue")
    assert dispatcher.run_once() == Pass(overdue=1)


def test_while_rabbitmq_is_away_nothing_is_marked(use_rabbitmq: Use) -> None:
    # Given overdue and near timers, and a claim that ended unsent
    use_rabbitmq(f"amqp://u:p@127.0.0.1:{free_port()}/")
    timers = [new_timer(-5), new_timer(5)]
    lost = claimed(new_timer(-5))
    change(lost.id, "leased_until = now() - interval '1 ms'")

    # When a pass is done
    def mark(**_: Any) -> list[DueMessage]:
        raise AssertionError("marked, if only for a moment")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taking_over, "SETTLE", timedelta(0))
        patch.setattr(queueing, "promote", mark)
        patch.setattr(queueing, "lost", mark)
        done = dispatcher.run_once()

    # Then what needs no RabbitMQ is done, and nothing looks queued
    assert done == Pass(taken_over=1, rabbitmq_away=True)
    assert not any(queued(each) for each in (*timers, lost.id))


def test_what_is_not_published_loses_its_mark_and_ends_the_pass(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a RabbitMQ that takes every second message
    enqueue = ladder.enqueue_many

    def enqueue_half(messages: Any) -> list[Exception | None]:
        enqueue(messages[::2])
        return [Refused() if n % 2 else None for n in range(len(messages))]

    monkeypatch.setattr(ladder, "enqueue_many", enqueue_half)
    timers = new_timers(dispatcher._BATCH + 20, -5)

    # When a pass is done, Then it ends with the first batch
    assert dispatcher.run_once() == Pass(overdue=dispatcher._BATCH // 2)
    marked = {str(each) for each in timers if queued(each)}
    assert len(marked) == dispatcher._BATCH // 2
    eventually(lambda: ladder.depth("timers.overdue") == len(marked))
    assert set(drain(ladder, "timers.overdue")) == marked

    # When RabbitMQ is well again, Then the others follow
    monkeypatch.undo()
    dramatiq.set_broker(ladder)
    assert dispatcher.run_once().overdue == len(timers) - len(marked)


def test_marks_that_cannot_be_cleared_are_left_to_the_sweep(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresSwitch, caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(messages: Any) -> list[Exception | None]:
        postgres.goes_away()
        return [Refused() for _ in messages]

    monkeypatch.setattr(ladder, "enqueue_many", refuse)
    timer_id = new_timer(5, queued=True)
    assert publishing.publish([DueMessage(timer_id, 0.0)]) == 0
    assert "the sweep will find" in caplog.text
    postgres.comes_back()
    assert queued(timer_id)


def test_what_rabbitmq_lost_is_queued_again(
    ladder: LadderBroker, shared_vhost: VHost
) -> None:
    # Given queued timers, and a RabbitMQ that has lost its queues
    timers = new_timers(3, -5)
    dispatcher.run_once()
    eventually(lambda: ladder.depth("timers.overdue") == 3)
    for queue in shared_vhost[1].queues():
        shared_vhost[1].delete_queue(queue)

    # When the pass comes too soon after, Then nothing is done
    queued_ago(timers, 0)
    assert dispatcher.run_once() == Pass()

    # When it comes later, Then they are queued once more
    queued_ago(timers, 6)
    assert dispatcher.run_once() == Pass(lost=3)
    eventually(lambda: ladder.depth("timers.overdue") == 3)
    queued_ago(timers, 0)
    assert dispatcher.run_once() == Pass()


def test_a_backlog_is_not_queued_twice(ladder: LadderBroker) -> None:
    # Given more queued timers than an empty queue has
    timers = new_timers(dispatcher._NEARLY_EMPTY + 1, -10)
    dispatcher.run_once()
    eventually(lambda: ladder.depth("timers.overdue") == len(timers))
    queued_ago(timers, 30)

    # When they are overdue for long, Then they are not taken for lost
    assert dispatcher.run_once() == Pass()

    # When a worker has taken most of them and keeps them
    assert len(drain(ladder, "timers.overdue")) == len(timers)
    assert dispatcher.run_once() == Pass(lost=len(timers))


def test_dispatchers_side_by_side_queue_each_timer_once(
    ladder: LadderBroker,
) -> None:
    timers = new_timers(2000, -5)
    with ThreadPoolExecutor(4) as threads:
        passes = list(threads.map(lambda _: dispatcher.run_once(), range(4)))
    assert sum(done.overdue for done in passes) == len(timers)
    eventually(lambda: ladder.depth("timers.overdue") == len(timers))
    found = drain(ladder, "timers.overdue")
    assert sorted(found) == sorted(map(str, timers))


def test_what_became_of_lost_workers_claims_is_logged(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given claims that ended: unsent, sent, and unsent for the sixth time
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    unsent, sent, given_up = (claimed(each) for each in new_timers(3, -5))
    claiming.mark_sent([Mark(sent.id, sent.token, sent.due_at)])
    change(given_up.id, "claims = 6")
    for claim in (unsent, sent, given_up):
        change(claim.id, "leased_until = now() - interval '1 ms'")

    # When a pass is done
    assert dispatcher.run_once() == Pass(overdue=1, taken_over=3)

    # Then each has a line that names the timer
    lines = {vars(r)["timer"]: r.getMessage() for r in caplog.records}
    assert lines == {
        str(unsent.id): "worker died before the call; timer fires again",
        str(sent.id): "worker died after the request had left;"
                      " not sent again",
        str(given_up.id): "timer given up: each worker that had it died",
    }


@pytest.mark.parametrize("trouble", ["an outage", "a stall"])
def test_nothing_is_taken_over_soon_after_an_outage(
    db_pool: None, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    # Given a Postgres that was away, or did not answer
    asked: list[int] = []

    def take_over(*, limit: int) -> list[object]:
        asked.append(limit)
        return []

    monkeypatch.setattr(taking_over, "take_over", take_over)
    outage = Outage("away", "back")
    monkeypatch.setattr(dispatcher, "POSTGRES", outage)
    dispatcher.take_over()
    assert asked.pop()
    if trouble == "an outage":
        outage.failed()
        dispatcher.take_over()
        outage.worked()
    else:
        monkeypatch.setattr(database, "POSTGRES", outage)
        monkeypatch.setattr(database, "STALL", 0.05)
        with database.pool().connection() as connection:
            connection.execute("SELECT pg_sleep(0.1)")

    # Then claims are left to their workers for so long, and no longer
    dispatcher.take_over()
    assert not asked
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    dispatcher.take_over()
    assert asked


# --- the commands ---------------------------------------------------------


def test_recovery_says_what_it_queued(ladder: LadderBroker) -> None:
    new_timers(2, -5)
    new_timers(3, 5)
    new_timer(90)
    assert recover() == (
        "Queued 5 timers: 2 overdue, 3 near."
        " Taken over from dead workers: 0."
    )
    assert recover().startswith("Queued 0 timers: 0 overdue, 0 near.")


def test_recovery_without_rabbitmq_says_what_waits(use_rabbitmq: Use) -> None:
    use_rabbitmq(f"amqp://u:p@127.0.0.1:{free_port()}/")
    new_timers(2, -5)
    new_timers(3, 5)
    assert recover() == (
        "RabbitMQ can't be reached: 2 overdue and 3 near timers wait in"
        " Postgres; the dispatcher queues them when RabbitMQ is back."
    )


def test_recovery_in_standalone_leaves_timers_to_the_worker(
    memory_broker: MemoryBroker,
) -> None:
    new_timers(2, -5)
    new_timers(3, 5)
    assert recover() == (
        "Standalone: 2 overdue and 3 near timers wait in Postgres; the"
        " worker takes them from there."
    )


def test_recovery_fails_without_postgres(
    memory_broker: MemoryBroker, postgres: PostgresSwitch
) -> None:
    postgres.goes_away()
    with pytest.raises(CommandError, match="Postgres can't be reached"):
        recover()


def test_there_is_nothing_to_dispatch_in_standalone(
    memory_broker: MemoryBroker,
) -> None:
    with pytest.raises(CommandError, match="RABBITMQ_URL is not set"):
        call_command("dispatch_timers")


def test_the_loop_outlives_an_outage_of_postgres(
    ladder: LadderBroker, postgres: PostgresSwitch,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    # Given the dispatcher's loop, and no Postgres
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    stopping = threading.Event()
    timer_id = new_timer(-5)
    postgres.goes_away()
    loop = threading.Thread(target=_run, args=(stopping,))
    loop.start()
    try:
        eventually(lambda: "trying again" in caplog.text)

        # When it is back, Then the loop goes on, and shows that it lives
        postgres.comes_back()
        eventually(lambda: queued(timer_id))
        assert list(tmp_path.glob("heartbeats/dispatcher.*"))
    finally:
        stopping.set()
        loop.join(5)
    assert not loop.is_alive()


# --- publishing after a create --------------------------------------------


def create(seconds: float) -> UUID:
    timer = services.new_timer(
        OWNER, Definition("http://127.0.0.1:9/"), timedelta(seconds=seconds)
    )
    return services.create_timer(timer)


def test_a_near_timer_is_published_after_its_creation(
    ladder: LadderBroker,
) -> None:
    # Given a near timer and a far one
    near = create(1)
    far = create(90)

    # Then only the near one is queued, and its message comes in time
    assert (queued(near), queued(far)) == (True, False)
    eventually(lambda: ladder.depth("timers") == 1)
    early = (row(near)["due_at"] - database_clock()).total_seconds()
    assert -1 < early <= claiming.LEAD.total_seconds()
    assert drain(ladder, "timers") == [str(near)]


def test_a_creation_does_not_wait_for_rabbitmq(
    use_rabbitmq: Use,
) -> None:
    # Given no RabbitMQ
    use_rabbitmq(f"amqp://u:p@127.0.0.1:{free_port()}/")

    # When a near timer is created, Then it is stored, and its mark cleared
    timer_id = create(30)
    eventually(lambda: not queued(timer_id))


def test_the_publisher_gives_back_what_it_cannot_hold_or_publish(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a publisher that holds two timers, and a slow RabbitMQ
    publishing.publisher.forget()
    monkeypatch.setattr(publishing, "MOST_WAITING", 2)
    monkeypatch.setattr(publishing, "_LAST_PUBLISHING", 0.1)
    gate = threading.Event()
    taken: list[int] = []

    def publish_slowly(messages: list[Any]) -> list[Exception | None]:
        taken.append(len(messages))
        gate.wait(10)
        raise RuntimeError("out of order")

    broker = SimpleNamespace(enqueue_many=publish_slowly)
    monkeypatch.setattr(publishing, "get_broker", lambda: broker)
    timers = new_timers(4, 30, queued=True)
    publishing.publish_later(DueMessage(timers[0], 0.0))
    eventually(lambda: taken)

    # When there is one more than it can hold, Then that one is given back
    for timer_id in timers[1:]:
        publishing.publish_later(DueMessage(timer_id, 0.0))
    assert [queued(each) for each in timers] == [True, True, True, False]

    # When it is closed before the others got through, Then so are they
    publisher = publishing.publisher.forget()
    assert publisher is not None
    publishing._close(publisher)
    assert [queued(each) for each in timers] == [True, False, False, False]
    gate.set()
    eventually(lambda: not queued(timers[0]))


def test_no_message_of_a_timer_replaces_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two threads that moved it, either may be the first one here."""
    # Given messages that wait while others are published
    publishing.publisher.forget()
    gate = threading.Event()
    taken: list[DueMessage] = []

    def publish_slowly(timers: Sequence[DueMessage]) -> None:
        taken.extend(timers)
        gate.wait(10)

    monkeypatch.setattr(publishing, "publish", publish_slowly)
    others, timer_id = uuid4(), uuid4()
    publishing.publish_later(DueMessage(others, 0.0))
    eventually(lambda: taken)

    # When a timer gets an early one, and then one for a later time
    early, late = DueMessage(timer_id, 10.0), DueMessage(timer_id, 50.0)
    publishing.publish_later(early)
    publishing.publish_later(late)

    # Then both are published
    gate.set()
    eventually(lambda: {early, late} <= set(taken))


# --- readiness ------------------------------------------------------------


def test_without_rabbitmq_the_service_is_ready_but_degraded(
    use_rabbitmq: Use, shared_vhost: VHost
) -> None:
    def readiness() -> tuple[int, dict[str, str]]:
        answer = Client().get("/readyz")
        return answer.status_code, answer.json()

    use_rabbitmq(f"amqp://u:p@127.0.0.1:{free_port()}/")
    assert readiness() == (
        200, {"status": "degraded", "postgres": "ok", "rabbitmq": "away"}
    )
    use_rabbitmq(shared_vhost[0])
    well = {"status": "ok", "postgres": "ok", "rabbitmq": "ok"}
    eventually(lambda: readiness() == (200, well))

"""The whole stack as real processes: what fires, when, and how often."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from apps.timers.models import Timer
from apps.timers.scheduling.publishing import message_for
from tests.support.rabbitmq import Management
from tests.support.receiver import (
    Connection,
    Receiver,
    answering,
    hanging,
    scripted,
)
from tests.support.service import Service
from tests.support.timers import (
    depth,
    each_called_once,
    execute,
    publish,
    show_lateness,
    store_timers,
    unended,
    value_of,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

VHost = tuple[str, Management]

#: How many moves, or how many of one timer: usually, and to measure.
counts = pytest.mark.parametrize(
    "count", [120, pytest.param(1000, marks=pytest.mark.load)]
)


def test_many_timers_of_one_second(
    stack: Service, receiver: Receiver
) -> None:
    # Given more timers than the dispatcher takes at once
    timers = store_timers(
        receiver.url(), [2 + index / 600 for index in range(600)]
    )
    each_called_once(receiver, timers, within=30)
    show_lateness("600 timers in one second", receiver, timers)


def test_each_process_keeps_few_connections_to_rabbitmq(
    stack: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    timers = stack.set_timers(100, 2, receiver.url())
    each_called_once(receiver, timers, within=10)

    # One for web, one for the dispatcher, one for each of the worker's
    # two queues, and one for what it may have to publish.
    def count() -> int:
        return len(module_vhost[1].connections())

    eventually(lambda: count() >= 4, within=10)
    assert count() <= 5


def test_connections_closed_by_rabbitmq_lose_and_repeat_nothing(
    stack: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    # Given 16 threads that wait for answers, and prefetched messages
    receiver.gate.clear()
    timers = stack.set_timers(60, 1, receiver.url())
    eventually(lambda: len(receiver.calls) == 16)
    eventually(lambda: len(module_vhost[1].connections()) >= 4)

    # When RabbitMQ closes every connection
    module_vhost[1].close_connections()
    receiver.gate.set()

    # Then each timer is called once, and others go on
    timers |= stack.set_timers(20, 1, receiver.url())
    each_called_once(receiver, timers, within=20)
    eventually(lambda: depth(module_vhost[0], "timers") == 0)


def test_what_nobody_can_handle_is_set_aside(
    stack: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    url, _ = module_vhost
    (timer,) = store_timers(receiver.url(), [3600])
    message = message_for(UUID(timer))
    publish(
        url, "timers",
        message.copy(actor_name="unknown").encode(),
        message.copy(args=("no uuid",)).encode(),
        b"not a message",
    )  # fmt: skip
    timer = stack.set_timer(1, receiver.url())
    each_called_once(receiver, {timer}, within=5)
    eventually(lambda: depth(url, "timers.XQ") == 3)


def test_one_message_many_times_is_one_call(
    stack: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    receiver.gate.clear()
    (timer,) = store_timers(receiver.url(), [0])
    body = message_for(UUID(timer)).encode()
    publish(module_vhost[0], "timers", *[body] * 20)
    eventually(lambda: depth(module_vhost[0], "timers") == 0)
    receiver.gate.set()
    each_called_once(receiver, {timer}, within=5)


def test_purged_and_deleted_queues_cost_lateness_only(
    stack: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    # Given timers on the ladder
    url, management = module_vhost
    timers = stack.set_timers(30, 6, receiver.url())
    eventually(lambda: depth(url, "delay.5s") == 30)

    # When their queues are purged, two queues deleted, and more are set
    for name in management.queues():
        management.call("DELETE", f"/queues/{{vhost}}/{name}/contents")
    management.delete_queue("timers")
    management.delete_queue("delay.5s")
    timers |= stack.set_timers(30, 6, receiver.url())

    # Then all fire
    each_called_once(receiver, timers, within=20)
    show_lateness("after a purge", receiver, timers)
    assert "delay.5s" in management.queues()


def test_receivers_that_misbehave_are_called_once(
    stack: Service, receiver: Receiver
) -> None:
    def reset(connection: Connection) -> None:
        connection.read_request()
        connection.reset()

    def endless(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(200):
            connection.sock.sendall(b"x" * 1_000_000)

    moved = answering(
        b"HTTP/1.1 302 Found\r\nLocation: " + receiver.url().encode()
        + b"\r\nContent-Length: 0\r\n\r\n"
    )  # fmt: skip
    broken = answering(
        b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n"
    )
    expected = [
        (moved, "failed", 302, None),
        (broken, "failed", 500, None),
        (reset, "failed", None, "reset"),
        (hanging, "failed", None, "timeout"),
        (endless, "delivered", 200, None),
    ]
    for script, status, code, error in reversed(expected):
        with scripted(script) as server:
            timer = stack.set_timer(0, server.url())
            eventually(lambda: not unended({timer}), within=15)  # noqa: B023
            shown = stack.timer(timer)
            assert (shown["status"], shown["status_code"]) == (status, code)
            assert (shown["error"] or "").partition(":")[0] == (error or "")
            assert len(server.requests) == 1
            assert timer.encode() in server.requests[0]
    assert not receiver.calls


def test_a_timer_that_was_lost_with_five_workers_is_given_up(
    stack: Service, receiver: Receiver
) -> None:
    # Given a timer whose every claim ended without a word
    (timer,) = store_timers(receiver.url(), [3600])
    execute(
        "UPDATE timer SET claims = 6, fired_at = now(), claim_token = id,"
        " leased_until = now() WHERE id = %s",
        timer,
    )
    # When others are due meanwhile
    others = stack.set_timers(20, 1, receiver.url())
    # Then it ends as failed, and they are called
    each_called_once(receiver, others, within=5)
    eventually(lambda: not unended({timer}))
    shown = stack.timer(timer)
    assert shown["status"] == "failed"
    assert shown["error"].startswith("worker_lost: 6 workers")


def test_what_failed_is_called_once_more_when_it_is_replayed(
    stack: Service, receiver: Receiver
) -> None:
    # Given a timer that failed
    receiver.status = 500
    timer_id = stack.set_timer(0, receiver.url())
    eventually(lambda: stack.timer(timer_id)["status"] == "failed")

    # When its receiver is mended, and it is replayed
    receiver.status = 200
    status, answer = stack.request(
        "POST", "/timers/replay", {"host": receiver.url("")[len("http://"):]}
    )
    assert (status, answer["replayed"]) == (202, 1)

    # Then it is delivered by one more call
    eventually(lambda: stack.timer(timer_id)["status"] == "delivered")
    assert receiver.counts() == {timer_id: 2}


def test_a_timer_fires_now(stack: Service, receiver: Receiver) -> None:
    timer_id = stack.set_timer(3600, receiver.url())
    status, answer = stack.request("POST", f"/timer/{timer_id}/fire")
    assert (status, answer["time_left"]) == (202, 0)
    each_called_once(receiver, {timer_id}, within=5)
    status, answer = stack.request("POST", f"/timer/{timer_id}/fire")
    assert status == 409
    assert "ended" in answer["detail"] or "called" in answer["detail"]


@counts
def test_moves_that_race_with_firing_are_told_what_came_of_them(
    stack: Service, receiver: Receiver, count: int
) -> None:
    # Given timers, the first of which are moved a second before they fire,
    # and the last of them two seconds after that
    ahead = max(2, count // 100)
    timers = sorted(stack.set_timers(count, ahead, receiver.url()))
    due = {
        str(each.id): each.due_at for each in Timer.objects.all()
    }

    def race(number: int) -> tuple[str, str | None]:
        timer_id = timers[number]
        moment = due[timer_id].timestamp() - 1 + 3 * number / count
        time.sleep(max(0.0, moment - time.time()))
        answer = stack.move_timer(timer_id, 2)
        return timer_id, answer.get("fire_at")

    with ThreadPoolExecutor(16) as pool:
        moved = dict(pool.map(race, range(count)))

    # Then each is called once: at the new time if the move was told to have
    # worked, else at the old one
    each_called_once(receiver, set(timers), within=15)
    called = {
        call.timer: call.headers["timer-due-at"][:23]
        for call in receiver.calls
    }
    told = {
        timer_id: (
            fire_at or due[timer_id].isoformat(timespec="milliseconds")
        )[:23]
        for timer_id, fire_at in moved.items()
    }
    assert called == told
    assert {fire_at is None for fire_at in moved.values()} == {True, False}


@counts
def test_many_puts_of_one_key_are_one_call_at_the_last_time(
    stack: Service, receiver: Receiver, count: int
) -> None:
    # Given many threads that put one key at the same time, over and over
    answers: list[dict[str, Any]] = []

    def put(number: int) -> None:
        status, answer = stack.request(
            "PUT", "/timer/by-key/one",
            {"hours": 0, "minutes": 0, "seconds": 2 + number % 2,
             "url": receiver.url(), "if_exists": "extend"},
        )
        assert status in (200, 201), answer
        answers.append(answer)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(count)))

    # Then there is one timer, called once, at the time it was last given
    assert len({answer["id"] for answer in answers}) == 1
    last = stack.timer(answers[0]["id"])["fire_at"]
    each_called_once(receiver, {answers[0]["id"]}, within=12)
    (call,) = receiver.calls
    assert call.headers["timer-due-at"][:23] == last[:23]


@pytest.fixture(scope="module")
def twin(
    module_stack: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run as many processes again, over the same RabbitMQ."""
    service = Service(
        tmp_path_factory.mktemp("twin"), module_stack.env["RABBITMQ_URL"]
    )
    service.start_all()
    yield service
    service.kill()


def test_many_processes_over_one_database(
    stack: Service, twin: Service, receiver: Receiver
) -> None:
    # Given two of each process, When both webs take timers
    timers = set()
    for seconds in range(1, 4):
        timers |= stack.set_timers(40, seconds, receiver.url())
        timers |= twin.set_timers(40, seconds, receiver.url())

    # Then each is called by one worker
    each_called_once(receiver, timers, within=15)
    show_lateness("two web, two workers", receiver, timers)
    workers = [
        each for each in stack.processes + twin.processes
        if each.name == "worker"
    ]
    assert len(workers) == 2
    for worker in workers:
        called = "".join(
            line for line in worker.output().splitlines()
            if "timer delivered" in line
        )
        assert any(timer in called for timer in timers)


def test_one_dispatcher_takes_over_from_another(
    stack: Service, twin: Service, receiver: Receiver
) -> None:
    # When one of two is killed while both promote
    timers = store_timers(receiver.url(), [2.0] * 520)
    eventually(
        lambda: value_of(
            "SELECT count(*) FROM timer WHERE queued_at IS NOT NULL"
        ),
        every=0.001,
    )
    stack.kill("dispatcher")
    timers |= store_timers(receiver.url(), [2.0] * 40)

    # Then the other one promotes what is left
    each_called_once(receiver, timers, within=20)

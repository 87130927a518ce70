"""Timers that are set, moved, put, replayed and fired now, for real."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from apps.timers.models import Timer
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import each_called_once, late_ms
from tests.support.waiting import eventually

#: A moved timer is on time when its call is this late at most, in ms.
ON_TIME = 1000.0


in_the_stack = pytest.mark.parametrize(
    "broker_url",
    [pytest.param("stack", marks=pytest.mark.rabbitmq)],
    indirect=True,
)


def sizes(usual: int, large: int) -> pytest.MarkDecorator:
    """Run a test with a usual count, and with a large one if measuring."""
    return pytest.mark.parametrize(
        "count", [usual, pytest.param(large, marks=pytest.mark.load)]
    )


@pytest.mark.quiet
def test_a_timer_fires_on_time_and_once(
    service: Service, receiver: Receiver
) -> None:
    # Given a timer that is due in a second
    timer_id = service.set_timer(1, receiver.url("/hook?a=%2f"))

    # When its call has arrived and is recorded
    eventually(lambda: service.timer(timer_id)["status"] == "delivered")

    # Then it came once, on time, and says which timer it is
    (call,) = receiver.calls
    assert 0 <= call.late < 0.5
    assert call.path == "/hook?a=%2f"
    assert call.headers["webhook-id"] == call.payload["id"] == timer_id


def test_what_failed_is_called_once_more_when_it_is_replayed(
    service: Service, receiver: Receiver
) -> None:
    # Given a timer that failed
    receiver.status = 500
    timer_id = service.set_timer(0, receiver.url())
    eventually(lambda: service.timer(timer_id)["status"] == "failed")

    # When its receiver is mended, and it is replayed
    receiver.status = 200
    status, answer = service.request(
        "POST", "/timers/replay", {"host": receiver.url("")[len("http://"):]}
    )
    assert (status, answer["replayed"]) == (202, 1)

    # Then it is delivered by one more call
    eventually(lambda: service.timer(timer_id)["status"] == "delivered")
    assert receiver.counts() == {timer_id: 2}


def move(service: Service, timer_id: str, seconds: float) -> Any:
    status, answer = service.request(
        "PATCH", f"/timer/{timer_id}",
        {"hours": 0, "minutes": 0, "seconds": seconds},
    )
    assert status in (200, 409), answer
    return answer


#: When a timer is to fire, and when after each of its moves, in seconds.
TIMES = [
    (3600, 1), (30, 1), (1, 3), (30, 3, 1), (1, 2, 4), (1, 90, 2), (5, 1, 3),
]


@pytest.mark.quiet
def test_moved_timers_fire_at_their_new_times_only(
    service: Service, receiver: Receiver
) -> None:
    # Given timers that are moved, later or earlier, once or twice
    def set_and_move(times: tuple[int, ...]) -> tuple[str, str]:
        timer_id = service.set_timer(times[0], receiver.url())
        for seconds in times[1:]:
            time.sleep(0.3)  # messages are on their way
            moved = move(service, timer_id, seconds)
        return timer_id, moved["fire_at"][:23]

    with ThreadPoolExecutor(len(TIMES)) as pool:
        told = dict(pool.map(set_and_move, TIMES))

    # Then each is called once, on time
    each_called_once(receiver, set(told), within=9)
    assert told == {
        call.timer: call.headers["timer-due-at"][:23]
        for call in receiver.calls
    }
    assert max(late_ms(receiver, told)) < ON_TIME
    assert "came early" not in service.log()


def test_a_timer_fires_now(service: Service, receiver: Receiver) -> None:
    timer_id = service.set_timer(3600, receiver.url())
    status, answer = service.request("POST", f"/timer/{timer_id}/fire")
    assert (status, answer["time_left"]) == (202, 0)
    each_called_once(receiver, {timer_id}, within=5)
    status, answer = service.request("POST", f"/timer/{timer_id}/fire")
    assert status == 409
    assert "ended" in answer["detail"] or "called" in answer["detail"]


@sizes(300, 1000)
@in_the_stack
def test_moves_that_race_with_firing_are_told_what_came_of_them(
    service: Service, receiver: Receiver, count: int
) -> None:
    # Given timers, the first of which are moved a second before they fire,
    # and the last of them two seconds after that
    timers = sorted(service.set_timers(count, count // 100, receiver.url()))
    due = {
        str(each.id): each.due_at for each in Timer.objects.all()
    }

    def race(number: int) -> tuple[str, str | None]:
        timer_id = timers[number]
        moment = due[timer_id].timestamp() - 1 + 3 * number / count
        time.sleep(max(0.0, moment - time.time()))
        answer = move(service, timer_id, 2)
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


@sizes(300, 1000)
@in_the_stack
def test_many_puts_of_one_key_are_one_call_at_the_last_time(
    service: Service, receiver: Receiver, count: int
) -> None:
    # Given many threads that put one key at the same time, over and over
    answers: list[dict[str, Any]] = []

    def put(number: int) -> None:
        status, answer = service.request(
            "PUT", "/timer/by-key/one",
            {"hours": 0, "minutes": 0, "seconds": 3 + number % 3,
             "url": receiver.url(), "if_exists": "extend"},
        )
        assert status in (200, 201), answer
        answers.append(answer)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(count)))

    # Then there is one timer, called once, at the time it was last given
    assert len({answer["id"] for answer in answers}) == 1
    last = service.timer(answers[0]["id"])["fire_at"]
    each_called_once(receiver, {answers[0]["id"]}, within=12)
    (call,) = receiver.calls
    assert call.headers["timer-due-at"][:23] == last[:23]


def post_once(service: Service, receiver: Receiver, number: int) -> str:
    """Set a timer for a minute, once for its number; return its id."""
    request = urllib.request.Request(
        f"http://{service.host}:{service.port}/timer",
        method="POST",
        data=json.dumps({
            "hours": 0, "minutes": 1, "seconds": 0, "url": receiver.url(),
        }).encode(),
        headers={
            "content-type": "application/json",
            "idempotency-key": f"request {number}",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.loads(answer.read())["id"])


@sizes(60, 500)
def test_a_repeated_request_survives_a_kill_of_web(
    make_service: Callable[..., Service], receiver: Receiver, count: int
) -> None:
    # Given pairs of requests, each with a key, while web is killed
    service = make_service()
    web = service.start_web()
    ids: dict[int, set[str]] = {number: set() for number in range(count)}
    stop = threading.Event()

    def ask(number: int) -> None:
        for _ in range(2):
            while not stop.is_set():
                try:
                    answer = post_once(service, receiver, number)
                except OSError:
                    time.sleep(0.05)
                else:
                    ids[number].add(answer)
                    break

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(ask, number) for number in ids]
        eventually(lambda: sum(map(len, ids.values())) > count / 6)
        web.kill()
        service.start_again(web)
        for each in running:
            each.result(60)

    # Then each pair is one timer
    assert {len(found) for found in ids.values()} == {1}

"""What fires on time: one shared service of each shape, and little else."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver, answering, scripted
from tests.support.service import Service
from tests.support.timers import (
    depth,
    each_called_once,
    late_ms,
    store_timers,
    unended,
    value_of,
)
from tests.support.waiting import at_best, eventually

pytestmark = pytest.mark.quiet

VHost = tuple[str, Management]
#: A timer is on time when its call is less late than this, in ms.
ON_TIME = 1000.0

in_the_stack = pytest.mark.parametrize(
    "broker_url",
    [pytest.param("stack", marks=pytest.mark.rabbitmq)],
    indirect=True,
)


@in_the_stack
def test_far_timers_wait_in_postgres_alone(
    service: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    # Given thousands of timers for tomorrow, some of them set over the API
    store_timers(receiver.url("/far"), [86_400.0] * 5_000)
    service.set_timers(20, 86_400, receiver.url("/far"))

    # When one is set for in two seconds
    def lateness() -> float:
        near = service.set_timer(2, receiver.url())
        each_called_once(receiver, {near}, within=5)
        return late_ms(receiver, {near})[0]

    # Then it fires in two seconds, and the others are not in RabbitMQ
    at_best(lateness, under=ON_TIME)
    assert {call.path for call in receiver.calls} == {"/hook"}
    far = "SELECT count(*) FROM timer WHERE queued_at IS NULL"
    assert value_of(far) == 5_020
    names = module_vhost[1].queues()
    assert {depth(module_vhost[0], name) for name in names} == {0}


def test_a_timer_fires_on_time_and_once(
    service: Service, receiver: Receiver
) -> None:
    def lateness() -> float:
        # Given a timer that is due in a second
        receiver.calls.clear()
        timer_id = service.set_timer(1, receiver.url("/hook?a=%2f"))

        # When its call has arrived and is recorded
        eventually(lambda: service.timer(timer_id)["status"] == "delivered")

        # Then it came once, on time, and says which timer it is
        (call,) = receiver.calls
        assert call.path == "/hook?a=%2f"
        assert call.headers["webhook-id"] == call.payload["id"] == timer_id
        assert call.late >= 0
        return call.late

    at_best(lateness, under=0.5)


#: In place of the time of a timer that was called before it was moved.
_CALLED = "called"
#: When a timer is to fire, and when after each of its moves, in seconds.
TIMES = [
    (3600, 1), (30, 1), (1, 2), (30, 3, 1), (1, 2, 3), (1, 90, 2), (4, 1, 2),
]


def test_moved_timers_fire_at_their_new_times_only(
    service: Service, receiver: Receiver
) -> None:
    # Given timers that are moved, later or earlier, once or twice
    def set_and_move(times: tuple[int, ...]) -> tuple[str, str]:
        timer_id = service.set_timer(times[0], receiver.url())
        for seconds in times[1:]:
            time.sleep(0.3)  # messages are on their way
            moved = service.move_timer(timer_id, seconds)
        return timer_id, moved.get("fire_at", _CALLED)[:23]

    def lateness() -> float:
        receiver.calls.clear()
        with ThreadPoolExecutor(len(TIMES)) as pool:
            told = dict(pool.map(set_and_move, TIMES))

        # Then each is called once, on time
        each_called_once(receiver, set(told), within=9)
        if _CALLED in told.values():
            return math.inf
        assert told == {
            call.timer: call.headers["timer-due-at"][:23]
            for call in receiver.calls
        }
        return late_ms(receiver, told)[-1]

    at_best(lateness, under=ON_TIME)
    assert "came early" not in service.log()


@in_the_stack
def test_the_sooner_one_fires_first_though_it_was_set_later(
    service: Service, receiver: Receiver
) -> None:
    def lateness() -> float:
        receiver.calls.clear()
        later = service.set_timer(2, receiver.url())
        sooner = service.set_timer(1, receiver.url())
        at_once = service.set_timer(0, receiver.url())

        each_called_once(receiver, {later, sooner, at_once}, within=9)
        order = [call.timer for call in receiver.calls]
        late = late_ms(receiver, order)[-1]
        # Those that are a second late may come with the next one.
        assert late >= ON_TIME or order == [at_once, sooner, later]
        return late

    at_best(lateness, under=ON_TIME)


def test_two_timers_of_one_second_keep_their_own_times(
    service: Service, receiver: Receiver
) -> None:
    def lateness() -> float:
        timers = store_timers(receiver.url(), [1.9, 1.1])
        each_called_once(receiver, timers, within=5)
        return late_ms(receiver, timers)[-1]

    at_best(lateness, under=20, of=5)


# The receiver is to close in less than 50 ms.
@in_the_stack
@pytest.mark.parametrize("times", [1, 3])
def test_a_receiver_that_closes_connections_gets_each_call_once(
    service: Service, times: int
) -> None:
    with scripted(answering(times=times)) as server:
        timers = service.set_timers(100, 1, server.url())
        eventually(lambda: not unended(timers), within=10)
        assert len(server.requests) == 100
    delivered = "SELECT count(*) FROM timer WHERE outcome = 'delivered'"
    assert value_of(delivered) == 100


# This is the last one: the policy stays with the module's virtual host.
@in_the_stack
def test_a_policy_with_a_short_ttl_is_told_once(
    service: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    # Given a policy by which no message waits for longer than 50 ms
    _, management = module_vhost
    policy = {
        "pattern": "^delay", "apply-to": "queues",
        "definition": {"message-ttl": 50},
    }
    management.call("PUT", "/policies/{vhost}/short", policy)

    # When timers wait, whose messages come early all the time
    def lateness() -> float:
        timers = {service.set_timer(2, receiver.url()) for _ in range(40)}
        each_called_once(receiver, timers, within=10)
        return late_ms(receiver, timers)[-1]

    # Then each fires once, and the log says it in one line a process
    at_best(lateness, under=ON_TIME)
    assert service.log().count("came early") == 1

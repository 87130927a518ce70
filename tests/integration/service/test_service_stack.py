"""The whole stack as real processes: what fires, when, and how often."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from apps.timers.scheduling.publishing import message_for
from tests.support.rabbitmq import Management, Proxy
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
    late_ms,
    publish,
    show_lateness,
    store_timers,
    unended,
    value_of,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

VHost = tuple[str, Management]


@pytest.mark.quiet
def test_far_timers_wait_in_postgres_alone(
    stack: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    # Given thousands of timers for tomorrow, some of them set over the API
    store_timers(receiver.url("/far"), [86_400.0] * 5_000)
    stack.set_timers(20, 86_400, receiver.url("/far"))

    # When one is set for in two seconds
    near = stack.set_timer(2, receiver.url())

    # Then it fires in two seconds, and the others are not in RabbitMQ
    each_called_once(receiver, {near}, within=5)
    assert late_ms(receiver, {near})[0] < 1000
    assert [call.path for call in receiver.calls] == ["/hook"]
    far = "SELECT count(*) FROM timer WHERE queued_at IS NULL"
    assert value_of(far) == 5_020
    names = module_vhost[1].queues()
    assert {depth(module_vhost[0], name) for name in names} == {0}


def test_a_thousand_timers_of_one_second(
    stack: Service, receiver: Receiver
) -> None:
    timers = store_timers(
        receiver.url(), [3 + index / 1000 for index in range(1000)]
    )
    each_called_once(receiver, timers, within=30)
    show_lateness("1,000 timers in one second", receiver, timers)


@pytest.mark.quiet
def test_the_sooner_one_fires_first_though_it_was_set_later(
    stack: Service, receiver: Receiver
) -> None:
    later = stack.set_timer(3, receiver.url())
    sooner = stack.set_timer(1, receiver.url())
    at_once = stack.set_timer(0, receiver.url())

    each_called_once(receiver, {later, sooner, at_once}, within=9)
    order = [call.timer for call in receiver.calls]
    assert order == [at_once, sooner, later]
    assert late_ms(receiver, order)[-1] < 1000


@pytest.mark.quiet
def test_two_timers_of_one_second_keep_their_own_times(
    stack: Service, receiver: Receiver
) -> None:
    # A busy machine may spoil one try, the rounding of delays spoils all.
    spreads = []
    for _ in range(5):
        timers = store_timers(receiver.url(), [1.9, 1.1])
        each_called_once(receiver, timers, within=5)
        spreads.append(late_ms(receiver, timers)[-1])
        if spreads[-1] < 20:
            return
    pytest.fail(f"late by {spreads} ms")


def test_each_process_keeps_few_connections_to_rabbitmq(
    stack: Service, module_vhost: VHost, receiver: Receiver
) -> None:
    timers = stack.set_timers(400, 2, receiver.url())
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
    timers = stack.set_timers(30, 3, receiver.url())
    eventually(lambda: depth(url, "delay.2s") == 30)

    # When their queues are purged, two queues deleted, and more are set
    for name in management.queues():
        management.call("DELETE", f"/queues/{{vhost}}/{name}/contents")
    management.delete_queue("timers")
    management.delete_queue("delay.2s")
    timers |= stack.set_timers(30, 3, receiver.url())

    # Then all fire
    each_called_once(receiver, timers, within=20)
    show_lateness("after a purge", receiver, timers)
    assert "delay.2s" in management.queues()


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


@pytest.mark.quiet  # the receiver is to close in less than 50 ms
@pytest.mark.parametrize("times", [1, 3])
def test_a_receiver_that_closes_connections_gets_each_call_once(
    stack: Service, times: int
) -> None:
    with scripted(answering(times=times)) as server:
        timers = stack.set_timers(100, 1, server.url())
        eventually(lambda: not unended(timers), within=10)
        assert len(server.requests) == 100
    delivered = "SELECT count(*) FROM timer WHERE outcome = 'delivered'"
    assert value_of(delivered) == 100


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


@pytest.fixture
def proxy(module_vhost: VHost) -> Iterator[Proxy]:
    proxy = Proxy(module_vhost[0])
    yield proxy
    proxy.close()


@pytest.fixture
def cut_off(
    stack: Service, proxy: Proxy, receiver: Receiver,
    make_service: Callable[..., Service],
) -> Service:
    """Return another web of the stack, whose line to RabbitMQ is dead."""
    service = make_service(proxy.url)
    service.start_web()
    each_called_once(
        receiver, {service.set_timer(0, receiver.url())}, within=5
    )
    proxy.black_hole()
    return service


def test_web_killed_between_commit_and_publish(
    cut_off: Service, receiver: Receiver
) -> None:
    # When it is killed right after its answers
    timers = cut_off.set_timers(20, 1, receiver.url())
    cut_off.kill()

    # Then the sweep finds what was never published
    assert value_of(
        "SELECT count(*) FROM timer"
        " WHERE outcome IS NULL AND queued_at IS NOT NULL"
    ) == 20
    each_called_once(receiver, timers, within=15)
    show_lateness("web killed before it published", receiver, timers)


def test_web_stopped_before_it_could_publish(
    cut_off: Service, receiver: Receiver
) -> None:
    timers = cut_off.set_timers(20, 6, receiver.url())

    # Then it has published them: the sweep would come much later
    assert cut_off.processes[0].stop(within=10) == 0
    each_called_once(receiver, timers, within=10)
    assert late_ms(receiver, timers)[-1] < 5000


def test_many_processes_over_one_database(
    stack: Service, module_vhost: VHost, receiver: Receiver,
    make_service: Callable[..., Service],
) -> None:
    # Given two web processes, three workers and two dispatchers
    other = make_service(module_vhost[0])
    with ThreadPoolExecutor(2) as pool:
        starts: list[Callable[[], object]] = [
            other.start_all, other.start_worker,
        ]
        list(pool.map(lambda start: start(), starts))

    # When both take timers
    timers = set()
    for seconds in range(1, 6):
        timers |= stack.set_timers(50, seconds, receiver.url())
        timers |= other.set_timers(50, seconds, receiver.url())

    # Then each is called by one worker
    each_called_once(receiver, timers, within=15)
    show_lateness("two web, three workers", receiver, timers)
    workers = [
        each for each in stack.processes + other.processes
        if each.name == "worker"
    ]
    assert len(workers) == 3
    for worker in workers:
        called = "".join(
            line for line in worker.output().splitlines()
            if "timer delivered" in line
        )
        assert any(timer in called for timer in timers)


def test_one_dispatcher_takes_over_from_another(
    stack: Service, receiver: Receiver
) -> None:
    (first,) = (p for p in stack.processes if p.name == "dispatcher")
    stack.start_dispatcher()

    # When one is killed while both promote
    timers = store_timers(receiver.url(), [2.0] * 1_000)
    eventually(
        lambda: value_of(
            "SELECT count(*) FROM timer WHERE queued_at IS NOT NULL"
        ),
        every=0.001,
    )
    first.kill()
    timers |= store_timers(receiver.url(), [2.0] * 100)

    each_called_once(receiver, timers, within=20)

"""Processes that are killed, stopped and started again, in both shapes."""

import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.rabbitmq import Management, Proxy
from tests.support.receiver import Receiver
from tests.support.service import Process, Service
from tests.support.timers import (
    depth,
    each_called_once,
    execute,
    late_ms,
    show_lateness,
    store_timers,
    unended,
    value_of,
)
from tests.support.waiting import eventually

VHost = tuple[str, Management]
#: Enough overdue timers for several groups.
COUNT = 1_000
MakeService = Callable[..., Service]

SHAPES = [
    pytest.param("standalone"),
    pytest.param("stack", marks=pytest.mark.rabbitmq),
]


@pytest.fixture(params=SHAPES)
def service(
    request: pytest.FixtureRequest, make_service: MakeService
) -> Service:
    """Return a service of either shape, not yet started."""
    if request.param == "standalone":
        return make_service()
    url, _ = request.getfixturevalue("shared_vhost")
    return make_service(url)


@pytest.fixture
def proxy(shared_vhost: VHost) -> Iterator[Proxy]:
    proxy = Proxy(shared_vhost[0])
    yield proxy
    proxy.close()


def all_overdue() -> bool:
    return not value_of("SELECT count(*) FROM timer WHERE next_at > now()")


def test_timers_that_pass_while_everything_is_stopped_fire_at_its_start(
    service: Service, receiver: Receiver
) -> None:
    for kill in (False, True):
        # Given timers whose time passes while nothing runs
        started = service.start_all()
        timers = service.set_timers(50, 4, receiver.url())
        if kill:
            service.kill()
        else:
            with ThreadPoolExecutor(len(started)) as pool:
                assert set(pool.map(Process.stop, started)) == {0}
        eventually(all_overdue, within=5)
        assert not receiver.calls

        # When everything is started
        service.manage("recover_timers")
        service.start_all()

        # Then each is called, once
        each_called_once(receiver, timers, within=10)
        service.kill()
        receiver.calls.clear()


@pytest.mark.quiet
def test_a_backlog_does_not_delay_what_is_on_time(
    service: Service, receiver: Receiver
) -> None:
    # Given a backlog whose calls take their time, and 16 threads
    receiver.delay = 0.2
    backlog = store_timers(receiver.url("/overdue"), [-5.0] * 300)
    service.start_all()
    eventually(lambda: receiver.calls)

    # When timers come due meanwhile
    on_time = service.set_timers(10, 1, receiver.url())

    # Then they are on time
    each_called_once(receiver, on_time, within=5)
    assert late_ms(receiver, on_time)[-1] < 1000
    assert unended(backlog)
    receiver.delay = 0
    each_called_once(receiver, backlog, within=30)


def test_a_worker_that_is_told_to_stop_ends_its_calls_first(
    service: Service, receiver: Receiver
) -> None:
    # Given slow calls under way, and more that are waiting for a thread
    _, worker, *_ = service.start_all(threads=4)
    receiver.delay = 2
    timers = service.set_timers(40, 0, receiver.url())
    eventually(lambda: len(receiver.calls) >= 4, within=3)

    # When the worker is told to stop
    assert worker.stop(within=10) == 0

    # Then what was under way is recorded, and the rest is left alone
    ended = {call.timer for call in receiver.calls}
    assert len(ended) < 40
    assert not unended(ended)

    # Until there is another worker
    receiver.delay = 0
    service.start_worker()
    each_called_once(receiver, timers, within=20)
    assert "Traceback" not in service.log()


def test_what_a_killed_worker_had_begun(
    service: Service, receiver: Receiver
) -> None:
    # Given a call that has left, and one that cannot connect yet
    deaf = Receiver(deaf=True)
    receiver.gate.clear()
    _, worker, *_ = service.start_all()
    sent = service.set_timer(0, receiver.url())
    unsent = service.set_timer(0, deaf.url())
    marked = "SELECT sent_at IS NOT NULL FROM timer WHERE id = %s"
    eventually(lambda: value_of(marked, sent))
    claimed = "SELECT fired_at IS NOT NULL FROM timer WHERE id = %s"
    eventually(lambda: value_of(claimed, unsent))

    # When the worker is killed, and its leases have ended
    worker.kill()
    deaf.listen()
    receiver.gate.set()
    service.start_worker()
    assert execute("UPDATE timer SET leased_until = now()") == 2

    # Then only the call that had not left is made
    each_called_once(deaf, {unsent}, within=10)
    each_called_once(receiver, {sent}, within=10)
    shown = service.timer(sent)
    assert shown["status"] == "unknown"
    assert shown["error"].startswith("unknown: the worker died")
    assert service.timer(unsent)["status"] == "delivered"
    deaf.close()


def test_a_receiver_that_is_away_at_first_is_called_when_it_is_back(
    service: Service, absent: Receiver
) -> None:
    # Given a timer that comes due while its receiver is away
    service.start_all()
    timer_id = service.set_timer(0, absent.url())
    eventually(lambda: service.timer(timer_id)["status"] == "retrying")
    assert service.timer(timer_id)["error"].startswith("refused: ")

    # When the receiver is back after some tries, about 3 s later
    tries = "SELECT connect_failures FROM timer WHERE id = %s"
    eventually(lambda: value_of(tries, timer_id) == 3)
    absent.listen()

    # Then it is called, once
    each_called_once(absent, {timer_id}, within=15)
    assert service.timer(timer_id)["status"] == "delivered"
    assert service.timer(timer_id)["error"] is None
    assert value_of(tries, timer_id) == 3


@pytest.mark.chaos
def test_a_worker_that_slept_past_its_lease_calls_nobody(
    service: Service, receiver: Receiver
) -> None:
    # Given a call that has left, and one that cannot connect yet
    deaf = Receiver(deaf=True)
    receiver.gate.clear()
    _, sleeper, *_ = service.start_all()
    sent = service.set_timer(0, receiver.url())
    unsent = service.set_timer(0, deaf.url())
    marked = "SELECT sent_at IS NOT NULL FROM timer WHERE id = %s"
    eventually(lambda: value_of(marked, sent))

    # When the worker is paused for longer than its lease
    sleeper.send_all(signal.SIGSTOP)
    deaf.listen()
    service.start_worker()
    eventually(lambda: not unended({sent, unsent}), within=35)

    # Then another worker has made the call that had not left, and the one
    # that slept makes none when it goes on
    sleeper.send_all(signal.SIGCONT)
    receiver.gate.set()
    eventually(lambda: "the claim was taken over" in sleeper.output())
    each_called_once(deaf, {unsent}, within=5)
    each_called_once(receiver, {sent}, within=5)
    deaf.close()


def start_cut_off_web(
    service: Service, proxy: Proxy, receiver: Receiver
) -> Process:
    """Start everything, and a web whose line to RabbitMQ goes dead."""
    service.start_worker()
    service.start_dispatcher()
    web = service.start_web(RABBITMQ_URL=proxy.url)
    each_called_once(
        receiver, {service.set_timer(0, receiver.url())}, within=5
    )
    proxy.black_hole()
    return web


@pytest.mark.rabbitmq
def test_web_killed_between_commit_and_publish(
    make_service: MakeService, shared_vhost: VHost, proxy: Proxy,
    receiver: Receiver,
) -> None:
    service = make_service(shared_vhost[0])
    web = start_cut_off_web(service, proxy, receiver)

    # When it is killed right after its answers
    timers = service.set_timers(20, 1, receiver.url())
    web.kill()

    # Then the sweep finds what was never published
    assert value_of(
        "SELECT count(*) FROM timer"
        " WHERE outcome IS NULL AND queued_at IS NOT NULL"
    ) == 20
    each_called_once(receiver, timers, within=15)
    show_lateness("web killed before it published", receiver, timers)


@pytest.mark.rabbitmq
def test_web_stopped_before_it_could_publish(
    make_service: MakeService, shared_vhost: VHost, proxy: Proxy,
    receiver: Receiver,
) -> None:
    service = make_service(shared_vhost[0])
    web = start_cut_off_web(service, proxy, receiver)
    timers = service.set_timers(20, 6, receiver.url())

    # Then it has published them: the sweep would come much later
    assert web.stop(within=10) == 0
    each_called_once(receiver, timers, within=10)
    assert late_ms(receiver, timers)[-1] < 5000


@pytest.mark.rabbitmq
def test_recovery_queues_each_timer_once(
    make_service: MakeService, shared_vhost: VHost, receiver: Receiver
) -> None:
    # Given many overdue timers, and no worker
    url, _ = shared_vhost
    service = make_service(url)
    timers = store_timers(receiver.url(), [-5.0] * COUNT)

    # When four recoveries run at once
    with ThreadPoolExecutor(4) as pool:
        said = list(
            pool.map(lambda _: service.manage("recover_timers"), range(4))
        )

    # Then each timer is queued by one of them
    counts = [int(re.findall(r"Queued (\d+) timers", line)[0])
              for line in said]
    assert sum(counts) == COUNT
    assert depth(url, "timers.overdue") == COUNT

    # And not again, while a dispatcher runs and recovery is repeated
    service.start_dispatcher()
    assert "Queued 0 timers" in service.manage("recover_timers")
    execute(  # as if it had been so for half a minute
        "UPDATE timer SET queued_at = queued_at - interval '30 seconds'"
    )
    assert "Queued 0 timers" in service.manage("recover_timers")
    assert depth(url, "timers.overdue") == COUNT

    service.start_worker()
    each_called_once(receiver, timers, within=40)


@pytest.mark.rabbitmq
def test_one_dispatcher_takes_over_from_another(
    make_service: MakeService, shared_vhost: VHost, receiver: Receiver
) -> None:
    service = make_service(shared_vhost[0])
    service.start_worker()
    first = service.start_dispatcher()
    service.start_dispatcher()

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


@pytest.mark.rabbitmq
def test_many_processes_over_one_database(
    make_service: MakeService, shared_vhost: VHost, receiver: Receiver
) -> None:
    # Given two web processes, three workers and two dispatchers
    url, _ = shared_vhost
    service, other = make_service(url), make_service(url)
    starts: list[Callable[[], object]] = [
        service.start_all,
        other.start_all,
        service.start_worker,
    ]
    with ThreadPoolExecutor(len(starts)) as pool:
        for started in [pool.submit(start) for start in starts]:
            started.result()

    # When both take timers
    timers = set()
    for seconds in range(1, 6):
        timers |= service.set_timers(50, seconds, receiver.url())
        timers |= other.set_timers(50, seconds, receiver.url())

    # Then each is called by one worker
    each_called_once(receiver, timers, within=15)
    show_lateness("two web, three workers", receiver, timers)
    for process in service.processes + other.processes:
        if process.name == "worker":
            assert "timer delivered" in process.output()

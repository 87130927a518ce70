"""Workers that are stopped, killed and paused, in both shapes."""

import signal
from collections.abc import Iterator

import pytest

from tests.support.receiver import Receiver
from tests.support.service import Process, Service
from tests.support.timers import (
    each_called_once,
    execute,
    unended,
    value_of,
)
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def module_service(
    django_db_setup: None,
    broker_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run a service of each shape, but for its worker."""
    service = Service(tmp_path_factory.mktemp("service"), broker_url)
    service.start_all_but_workers()
    yield service
    service.kill()


def running_worker(service: Service) -> Process:
    """Return the service's worker of four threads; start it if none runs."""
    for each in service.processes:
        if each.name == "worker" and each.is_running():
            return each
    return service.start_worker(threads=4)


@pytest.fixture
def worker(service: Service) -> Process:
    """Return the service's worker, which runs."""
    return running_worker(service)


def test_what_a_killed_worker_had_begun(
    service: Service, receiver: Receiver
) -> None:
    # Given a call that has left, and one that cannot connect yet, when
    # their worker is killed
    deaf = Receiver(deaf=True)
    receiver.gate.clear()
    sent: list[str] = []
    unsent: list[str] = []
    marked = "SELECT sent_at IS NOT NULL FROM timer WHERE id = %s"
    claimed = "SELECT fired_at IS NOT NULL FROM timer WHERE id = %s"

    def kill_during_the_calls() -> bool:
        """Tell whether the kill came before the first call's time was up."""
        worker = running_worker(service)
        sent.append(service.set_timer(0, receiver.url()))
        unsent.append(service.set_timer(0, deaf.url()))
        eventually(lambda: value_of(marked, sent[-1]))
        eventually(lambda: value_of(claimed, unsent[-1]))
        worker.kill()
        return unended(sent[-1:]) == 1

    eventually(kill_during_the_calls)

    # When there is another worker, and the leases have ended
    deaf.listen()
    receiver.gate.set()
    running_worker(service)
    ended = execute(
        "UPDATE timer SET leased_until = now() WHERE leased_until IS NOT NULL"
    )
    assert ended >= 2

    # Then only the call that had not left is made
    each_called_once(deaf, unsent, within=10)
    each_called_once(receiver, sent, within=10)
    shown = service.timer(sent[-1])
    assert (shown["status"], shown["error"]) == (
        "unknown", "unknown: the worker died after the request had left"
    )
    assert service.timer(unsent[-1])["status"] == "delivered"
    deaf.close()


def test_a_worker_that_is_told_to_stop_ends_its_calls_first(
    service: Service, worker: Process, receiver: Receiver
) -> None:
    # Given slow calls under way, and more that are waiting for a thread
    receiver.delay = 1
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


def test_a_receiver_that_is_away_at_first_is_called_when_it_is_back(
    service: Service, worker: Process, absent: Receiver
) -> None:
    # Given a timer that comes due while its receiver is away
    timer_id = service.set_timer(0, absent.url())
    eventually(lambda: service.timer(timer_id)["status"] == "retrying")
    assert service.timer(timer_id)["error"].startswith("refused: ")

    # When the receiver is back after some tries
    tries = "SELECT connect_failures FROM timer WHERE id = %s"
    eventually(lambda: value_of(tries, timer_id) == 2)
    absent.listen()

    # Then it is called, once
    each_called_once(absent, {timer_id}, within=15)
    assert service.timer(timer_id)["status"] == "delivered"
    assert service.timer(timer_id)["error"] is None
    assert value_of(tries, timer_id) == 2


@pytest.mark.chaos
def test_a_worker_that_slept_past_its_lease_calls_nobody(
    service: Service, receiver: Receiver
) -> None:
    # Given a call that has left, and one that cannot connect yet
    deaf = Receiver(deaf=True)
    receiver.gate.clear()
    service.kill("worker")
    sleeper = service.start_worker()
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

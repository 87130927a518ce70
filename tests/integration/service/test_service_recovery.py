"""All of a service stopped or killed, and what was overdue recovered."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import pytest
from django.core.management import call_command

from apps.broker.rabbitmq import LadderBroker
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.service import Process, Service
from tests.support.timers import (
    depth,
    each_called_once,
    execute,
    store_timers,
    value_of,
)
from tests.support.waiting import eventually

VHost = tuple[str, Management]
MakeService = Callable[..., Service]

#: Enough overdue timers for several groups.
COUNT = 1_000


@pytest.fixture(
    params=["standalone", pytest.param("stack", marks=pytest.mark.rabbitmq)]
)
def service(
    request: pytest.FixtureRequest, make_service: MakeService
) -> Service:
    """Return a service of either shape, not yet started."""
    if request.param == "standalone":
        return make_service()
    url, _ = request.getfixturevalue("shared_vhost")
    return make_service(url)


def wait_until_overdue(receiver: Receiver) -> None:
    """Wait until all timers are overdue; assert that none was called."""
    far = "SELECT count(*) FROM timer WHERE next_at > now()"
    eventually(lambda: not value_of(far), within=5)
    assert not receiver.calls


def test_timers_that_pass_while_everything_is_stopped_fire_at_its_start(
    service: Service, receiver: Receiver
) -> None:
    # Given timers whose time passes after everything was told to stop
    started = service.start_all()
    timers = service.set_timers(50, 4, receiver.url())
    with ThreadPoolExecutor(len(started)) as pool:
        assert set(pool.map(Process.stop, started)) == {0}
    wait_until_overdue(receiver)

    # When they are recovered, and everything is started
    service.manage("recover_timers")
    service.start_all()

    # Then each is called, once
    each_called_once(receiver, timers, within=10)
    receiver.calls.clear()

    # And so are those whose time passes after everything was killed, even if
    # nobody recovers them
    timers = service.set_timers(50, 3, receiver.url())
    service.kill()
    wait_until_overdue(receiver)
    service.start_all()
    each_called_once(receiver, timers, within=10)


def queued(said: str) -> int:
    """Return how many timers a recovery says that it queued."""
    (count,) = re.findall(r"Queued (\d+) timers", said)
    return int(count)


def recover_here() -> int:
    """Run a recovery in this process; return how many timers it queued."""
    output = StringIO()
    call_command("recover_timers", stdout=output)
    return queued(output.getvalue())


@pytest.mark.rabbitmq
def test_recovery_queues_each_timer_once(
    make_service: MakeService, ladder: LadderBroker, shared_vhost: VHost,
    receiver: Receiver,
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
    assert sum(map(queued, said)) == COUNT
    assert depth(url, "timers.overdue") == COUNT

    # And not again, while a dispatcher runs and recovery is repeated
    service.start_dispatcher()
    assert recover_here() == 0
    execute(  # as if it had been so for half a minute
        "UPDATE timer SET queued_at = queued_at - interval '30 seconds'"
    )
    assert recover_here() == 0
    assert depth(url, "timers.overdue") == COUNT

    service.start_worker()
    each_called_once(receiver, timers, within=40)

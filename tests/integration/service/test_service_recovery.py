"""All of a service stopped or killed, and what was overdue recovered.

What fires is a worker. This process does what the dispatcher does, and
test_service_vhosts.py has what ends with web.
"""

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from io import StringIO

import dramatiq
import pika
import pytest
from django.core.management import call_command

from apps.broker.rabbitmq import LadderBroker
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.service import Service
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
    # This process is of the same shape, for its recoveries.
    if request.param == "standalone":
        request.getfixturevalue("memory_broker")
        return make_service()
    request.getfixturevalue("ladder")
    url, _ = request.getfixturevalue("shared_vhost")
    return make_service(url)


def store_and_queue(receiver: Receiver) -> set[str]:
    """Store timers, and wait until the worker or RabbitMQ has them.

    One that is due at once is queued by the same pass, after the others.
    These are due in some seconds: a busy machine needs time to queue them.
    """
    timers = store_timers(receiver.url(), [5.0] * 50)
    store_timers(receiver.url("/now"), [0.0])
    recover_here()
    eventually(lambda: [call.path for call in receiver.calls] == ["/now"])
    receiver.calls.clear()
    return timers


def wait_until_overdue(receiver: Receiver) -> None:
    """Wait until all timers are overdue; assert that none was called."""
    far = "SELECT count(*) FROM timer WHERE next_at > now()"
    eventually(lambda: not value_of(far), within=5)
    assert not receiver.calls


def test_timers_that_pass_while_everything_is_stopped_fire_at_its_start(
    service: Service, receiver: Receiver
) -> None:
    # Given timers whose time passes after the worker was told to stop
    worker = service.start_worker()
    timers = store_and_queue(receiver)
    assert worker.stop() == 0
    wait_until_overdue(receiver)

    # When they are recovered, and a worker is started
    recover_here()
    service.start_worker()

    # Then each is called, once
    each_called_once(receiver, timers, within=10)
    receiver.calls.clear()

    # And so are those whose time passes after it was killed, even if nobody
    # recovers them
    timers = store_and_queue(receiver)
    service.kill()
    wait_until_overdue(receiver)
    service.start_worker()
    each_called_once(receiver, timers, within=10)


def queued(said: str) -> int:
    """Return how many timers a recovery says that it queued."""
    found = re.findall(r"Queued (\d+) timers", said)
    return int(found[0]) if found else 0


def recover_here() -> int:
    """Run a recovery in this process; return how many timers it queued."""
    output = StringIO()
    call_command("recover_timers", stdout=output)
    return queued(output.getvalue())


def taken(url: str, queue: str) -> list[str]:
    """Take all messages from a queue; return the ids of their timers."""
    timers = []
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as link:
        channel = link.channel()
        while (body := channel.basic_get(queue, auto_ack=True)[2]) is not None:
            timers.append(str(dramatiq.Message.decode(body).args[0]))
    return timers


@pytest.mark.rabbitmq
def test_recovery_queues_each_timer_once(
    make_service: MakeService, ladder: LadderBroker, shared_vhost: VHost,
) -> None:
    # Given many overdue timers, and no worker
    url, _ = shared_vhost
    service = make_service(url)
    timers = store_timers("http://127.0.0.1:9/", [-5.0] * COUNT)

    # When three recoveries run at once, two of them as processes
    with ThreadPoolExecutor(2) as pool:
        running: list[Future[str]] = []

        def is_under_way() -> bool:
            # On a machine that stands still for a moment, they may not reach
            # RabbitMQ in time. Then they have queued nothing, and run again.
            has_ended = all(each.done() for each in running)
            count = value_of(
                "SELECT count(*) FROM timer WHERE queued_at IS NOT NULL"
            )
            if has_ended and not count:
                running[:] = [
                    pool.submit(service.manage, "recover_timers")
                    for _ in range(2)
                ]
            return bool(count)

        eventually(is_under_way, every=0.001)
        here = recover_here()
        others = [queued(each.result()) for each in running]

    # Then each timer is queued by one of them
    assert here + sum(others) == COUNT
    assert depth(url, "timers.overdue") == COUNT

    # And not again when recovery is repeated
    assert recover_here() == 0
    execute(  # as if it had been so for half a minute
        "UPDATE timer SET queued_at = queued_at - interval '30 seconds'"
    )
    assert recover_here() == 0
    assert sorted(taken(url, "timers.overdue")) == sorted(timers)

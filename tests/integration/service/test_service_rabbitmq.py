"""RabbitMQ stopped, killed and starved, under a stack that goes on."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.local.needs import rabbitmq_server
from tests.support.quiet import Quiet
from tests.support.receiver import Receiver
from tests.support.servers import OwnRabbitMQ
from tests.support.service import Service
from tests.support.timers import (
    depth,
    each_called_once,
    show_lateness,
)
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.skipif(
        rabbitmq_server() is None, reason="needs rabbitmq-server itself"
    ),
]


@pytest.fixture(scope="module")
def own_rabbitmq(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OwnRabbitMQ]:
    with OwnRabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="module")
def module_stack(
    django_db_setup: None,
    own_rabbitmq: OwnRabbitMQ,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run a stack over the RabbitMQ that is to have outages."""
    service = Service(tmp_path_factory.mktemp("stack"), own_rabbitmq.url)
    service.start_all()
    yield service
    service.kill()


def test_rabbitmq_is_restarted(
    stack: Service, own_rabbitmq: OwnRabbitMQ, receiver: Receiver
) -> None:
    quiet = Quiet(stack, most=10)
    # Given timers that come due while it is down, and others after
    across = stack.set_timers(20, 3, receiver.url())
    after = stack.set_timers(20, 20, receiver.url())
    eventually(lambda: depth(own_rabbitmq.url, "delay.2s") == 20)

    # When it is stopped, and timers are set all the same
    own_rabbitmq.stop()
    across |= stack.set_timers_fast(20, 1, receiver.url())
    assert stack.request("GET", "/readyz") == (
        200,
        {"status": "degraded", "postgres": "ok", "rabbitmq": "away"},
    )
    own_rabbitmq.start()
    back = time.time()

    # Then it costs lateness only, and only to those that were due
    each_called_once(receiver, across, within=10)
    show_lateness("RabbitMQ down across the time", receiver, across)
    each_called_once(receiver, after, within=25)
    # A sweep that finds lost messages comes much later. On a busy machine
    # a start takes until after their time.
    assert max(
        min(call.late, call.arrived - back)
        for call in receiver.calls if call.timer in after
    ) < 5
    quiet.check()


def test_rabbitmq_is_killed_in_a_burst(
    stack: Service, own_rabbitmq: OwnRabbitMQ, receiver: Receiver
) -> None:
    quiet = Quiet(stack, most=15)
    # Given a burst that is half over
    timers = stack.set_timers(300, 2, receiver.url())
    eventually(lambda: len(receiver.calls) > 50)
    with ThreadPoolExecutor(1) as pool:
        more = pool.submit(stack.set_timers, 300, 1, receiver.url())
        own_rabbitmq.kill()
        timers |= more.result()

    # When it is back
    own_rabbitmq.start()
    each_called_once(receiver, timers, within=20)
    show_lateness("RabbitMQ killed in a burst", receiver, timers)
    quiet.check()


def test_rabbitmq_has_a_memory_alarm(
    stack: Service, own_rabbitmq: OwnRabbitMQ, receiver: Receiver
) -> None:
    quiet = Quiet(stack, most=10)
    own_rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
    timers = stack.set_timers_fast(50, 1, receiver.url())

    # RabbitMQ tells a connection of the alarm when it publishes next.
    def is_told() -> bool:
        timers.update(stack.set_timers_fast(1, 1, receiver.url()))
        return "memory or disk alarm" in stack.log()

    eventually(is_told, every=0.1)
    timers |= stack.set_timers_fast(50, 1, receiver.url())

    own_rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    each_called_once(receiver, timers, within=15)
    quiet.check()

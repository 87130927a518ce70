"""A stack whose RabbitMQ allows fewer queues than ours."""

from collections.abc import Callable

import pytest

from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import each_called_once, late_ms
from tests.support.waiting import at_best, eventually

VHost = tuple[str, Management]
MakeService = Callable[..., Service]

pytestmark = [pytest.mark.rabbitmq, pytest.mark.quiet]


def test_timers_are_on_time_with_a_third_of_the_queues(
    make_service: MakeService, vhost: VHost, receiver: Receiver
) -> None:
    # Given a virtual host that may have 50 queues
    url, management = vhost
    path = "/vhost-limits/{vhost}/max-queues"
    management.call("PUT", path, {"value": 50})
    service = make_service(url)
    service.start_all()
    eventually(lambda: "refuses rungs of the ladder" in service.log())

    # When timers come due
    def lateness() -> float:
        timers = {service.set_timer(n % 4, receiver.url()) for n in range(40)}
        each_called_once(receiver, timers, within=10)
        return late_ms(receiver, timers)[-1]

    # Then each fires once and nearly on time, and the log says why not quite
    at_best(lateness, under=1000)
    log = service.log()
    assert "queue limit in vhost" in log
    assert log.count("refuses rungs of the ladder") <= 3  # processes

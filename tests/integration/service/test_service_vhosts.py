"""A stack whose line to RabbitMQ, or whose rights there, are poor."""

from collections.abc import Callable

import pytest

from tests.support.quiet import Quiet
from tests.support.rabbitmq import Management, Proxy, virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import (
    each_called_once,
    late_ms,
    show_lateness,
)
from tests.support.waiting import eventually

VHost = tuple[str, Management]
MakeService = Callable[..., Service]

pytestmark = pytest.mark.rabbitmq


def test_rabbitmq_is_in_a_black_hole(
    make_service: MakeService, vhost: VHost, receiver: Receiver
) -> None:
    # Given timers on the ladder, and some being called
    proxy = Proxy(vhost[0])
    service = make_service(proxy.url)
    service.start_all()
    timers = service.set_timers(20, 2, receiver.url())
    quiet = Quiet(service, most=10)

    # When nothing gets through any more
    proxy.black_hole()
    timers |= service.set_timers_fast(50, 1, receiver.url())
    eventually(lambda: "RabbitMQ is away" in service.log())
    timers |= service.set_timers_fast(50, 1, receiver.url())

    # Then all fire once it does
    proxy.restore()
    each_called_once(receiver, timers, within=20)
    show_lateness("after a black hole", receiver, timers)
    quiet.check()
    proxy.close()


def test_a_restricted_user_where_quorum_is_the_default(
    make_service: MakeService, rabbitmq_url: str, receiver: Receiver
) -> None:
    # Given a user who may do no more than what docs/operate.md names
    with virtual_host(rabbitmq_url, default_type="quorum") as (url, api):
        names = r"delay\..+|timers(\..+)?"
        rights = {
            "configure": f"^({names})$",
            # Rejected messages go to the dead letters by amq.default.
            "write": rf"^({names}|amq\.default)$",
            "read": f"^({names})$",
        }
        login = {"password": "p", "tags": ""}
        api.call("PUT", f"/users/{api.vhost}", login)
        api.call("PUT", f"/permissions/{{vhost}}/{api.vhost}", rights)
        host = url.rpartition("@")[2]
        service = make_service(f"amqp://{api.vhost}:p@{host}")
        try:
            # When the whole stack runs as that user
            service.start_all()
            timers = service.set_timers(10, 1, receiver.url())
            # Then timers fire, and the rungs are classic
            each_called_once(receiver, timers, within=5)
            assert late_ms(receiver, timers)[-1] < 5000
            types = {
                queue["type"]
                for name, queue in api.queues().items()
                if name.startswith("delay.")
            }
            assert types == {"classic"}
            assert "WARNING" not in service.log()
        finally:
            service.kill()
            api.call("DELETE", f"/users/{api.vhost}")

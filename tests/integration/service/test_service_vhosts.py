"""A stack whose line to RabbitMQ, and whose rights there, are poor."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from apps.timers.storage.queueing import LOST_AFTER
from tests.support.quiet import Quiet
from tests.support.rabbitmq import Management, Proxy, virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Process, Service
from tests.support.timers import (
    each_called_once,
    late_ms,
    show_lateness,
    value_of,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


@dataclass
class Poor:
    """A stack; its web has a line of its own to RabbitMQ."""

    service: Service
    web_line: Proxy
    other_line: Proxy
    management: Management

    @property
    def web(self) -> Process:
        """The web that was started last."""
        return [p for p in self.service.processes if p.name == "web"][-1]

    def start_web(self) -> Process:
        """Start a web and wait until it answers."""
        return self.service.start_web(RABBITMQ_URL=self.web_line.url)


@pytest.fixture(scope="module")
def module_poor(
    django_db_setup: None,
    rabbitmq_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Poor]:
    """Run a stack as a user of few rights, where quorum is the default.

    The user may do no more than what docs/operate.md names.
    """
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
        url = f"amqp://{api.vhost}:p@{url.rpartition('@')[2]}"
        web_line, other_line = Proxy(url), Proxy(url)
        service = Service(tmp_path_factory.mktemp("poor"), other_line.url)
        poor = Poor(service, web_line, other_line, api)
        starts = poor.start_web, service.start_worker, service.start_dispatcher
        try:
            with ThreadPoolExecutor(len(starts)) as pool:
                for begun in [pool.submit(start) for start in starts]:
                    begun.result()
            yield poor
        finally:
            service.kill()
            web_line.close()
            other_line.close()
            api.call("DELETE", f"/users/{api.vhost}")


@pytest.fixture
def poor(module_poor: Poor, db_pool: None) -> Iterator[Poor]:
    """Return the module's stack, on an empty table."""
    yield module_poor
    # A test that has failed may have left them cut.
    for line in (module_poor.web_line, module_poor.other_line):
        line.restore()


def test_a_restricted_user_where_quorum_is_the_default(
    poor: Poor, receiver: Receiver
) -> None:
    # Given a stack that has just started
    timers = poor.service.set_timers(10, 1, receiver.url())

    # Then timers fire, and the rungs are classic
    each_called_once(receiver, timers, within=5)
    assert late_ms(receiver, timers)[-1] < 5000
    types = {
        queue["type"]
        for name, queue in poor.management.queues().items()
        if name.startswith("delay.")
    }
    assert types == {"classic"}
    assert "WARNING" not in poor.service.log()


def test_rabbitmq_is_in_a_black_hole(poor: Poor, receiver: Receiver) -> None:
    # Given timers on the ladder, and some being called
    service = poor.service
    timers = service.set_timers(20, 2, receiver.url())
    quiet = Quiet(service, most=10)

    # When nothing gets through any more
    for line in (poor.web_line, poor.other_line):
        line.black_hole()
    timers |= service.set_timers_fast(50, 1, receiver.url())
    eventually(lambda: "RabbitMQ is away" in service.log())
    timers |= service.set_timers_fast(50, 1, receiver.url())

    # Then all fire once it does
    for line in (poor.web_line, poor.other_line):
        line.restore()
    each_called_once(receiver, timers, within=20)
    show_lateness("after a black hole", receiver, timers)
    quiet.check()


@pytest.fixture
def cut_off(poor: Poor, receiver: Receiver) -> Iterator[Poor]:
    """Return the stack when its web's line to RabbitMQ has just died."""
    if not poor.web.is_running():
        poor.start_web()
    timer = poor.service.set_timer(0, receiver.url())
    each_called_once(receiver, {timer}, within=5)
    poor.web_line.black_hole()
    yield poor
    poor.web_line.restore()


def test_web_stopped_before_it_could_publish(
    cut_off: Poor, receiver: Receiver
) -> None:
    timers = cut_off.service.set_timers(20, 5, receiver.url())

    # Then it has given them back, before a sweep looks for them
    assert cut_off.web.stop(within=10) == 0
    each_called_once(receiver, timers, within=10)
    assert late_ms(receiver, timers)[-1] < 1000 * LOST_AFTER.total_seconds()


def test_web_killed_between_commit_and_publish(
    cut_off: Poor, receiver: Receiver
) -> None:
    # When it is killed right after its answers
    timers = cut_off.service.set_timers(20, 1, receiver.url())
    cut_off.web.kill()

    # Then the sweep finds what was never published
    assert value_of(
        "SELECT count(*) FROM timer"
        " WHERE outcome IS NULL AND queued_at IS NOT NULL"
    ) == 20
    each_called_once(receiver, timers, within=15)
    show_lateness("web killed before it published", receiver, timers)

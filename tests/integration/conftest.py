"""Fixtures for the service as processes, and in the test's own process."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import ip_network
from pathlib import Path

import dramatiq
import pytest
from pytest_django import Settings

from apps.broker.interface import ON_TIME, OVERDUE
from apps.broker.memory import MemoryBroker
from apps.broker.rabbitmq import LadderBroker
from apps.core.outages import POSTGRES, PUBLISHING, TROUBLES
from apps.timers.firing import call, claims, fire
from apps.timers.storage import aside
from apps.webhooks import client
from apps.webhooks.http.connection import tls_context
from apps.webhooks.signing import parse_secret
from tests.support.poison import unseal
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rabbitmq import Management, virtual_host
from tests.support.receiver import Receiver
from tests.support.service import SECRET, Service
from tests.support.waiting import eventually


@pytest.fixture(scope="session", autouse=True)
def _roots() -> Iterator[None]:
    """Load roots once: a process has one client, tests hundreds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "tls_context", cache(tls_context))
        yield


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """Return the AMQP URL of the RabbitMQ that the tests were given."""
    return os.environ["RABBITMQ_URL"]


@pytest.fixture(scope="module")
def module_vhost(rabbitmq_url: str) -> Iterator[tuple[str, Management]]:
    """Make a virtual host for a module's tests."""
    with virtual_host(rabbitmq_url) as made:
        yield made


@pytest.fixture(scope="session")
def session_vhost(rabbitmq_url: str) -> Iterator[tuple[str, Management]]:
    """Make a virtual host for all tests that can do with a used one."""
    with virtual_host(rabbitmq_url) as made:
        yield made


@pytest.fixture
def shared_vhost(
    session_vhost: tuple[str, Management]
) -> tuple[str, Management]:
    """Return a virtual host whose queues are there already, and empty.

    The ladder's 160 queues take RabbitMQ half a second to make.
    """
    url, management = session_vhost
    management.empty_queues(url)
    return session_vhost


@pytest.fixture
def vhost(rabbitmq_url: str) -> Iterator[tuple[str, Management]]:
    """Make a virtual host for one test."""
    with virtual_host(rabbitmq_url) as made:
        yield made


@pytest.fixture
def make_service(
    db_pool: None, tmp_path: Path
) -> Iterator[Callable[..., Service]]:
    """Make services over the test's database; they end with the test."""
    made: list[Service] = []

    def make(rabbitmq_url: str = "", **settings: str) -> Service:
        directory = tmp_path / f"service-{len(made)}"
        directory.mkdir()
        made.append(Service(directory, rabbitmq_url, **settings))
        return made[-1]

    yield make
    for service in made:
        service.kill()


@pytest.fixture(
    scope="module",
    params=["standalone", pytest.param("stack", marks=pytest.mark.rabbitmq)],
)
def broker_url(request: pytest.FixtureRequest) -> str:
    """Return a URL for each shape of the service: standalone has none."""
    if request.param == "standalone":
        return ""
    url: str = request.getfixturevalue("module_vhost")[0]
    return url


@pytest.fixture(scope="module")
def module_service(
    django_db_setup: None,
    broker_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run a service of each shape for a module's tests."""
    service = Service(tmp_path_factory.mktemp("service"), broker_url)
    service.start_all()
    yield service
    service.kill()


@pytest.fixture
def service(module_service: Service, db_pool: None) -> Service:
    """Return the module's running service, on an empty table."""
    return module_service


@pytest.fixture(scope="module")
def module_stack(
    django_db_setup: None,
    module_vhost: tuple[str, Management],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run web, worker and dispatcher for a module's tests."""
    service = Service(
        tmp_path_factory.mktemp("stack"), module_vhost[0], WEBHOOK_TIMEOUT="5"
    )
    service.start_all()
    yield service
    service.kill()


@pytest.fixture
def stack(module_stack: Service, db_pool: None) -> Service:
    """Return the module's running stack, on an empty table."""
    return module_stack


@pytest.fixture(scope="module")
def web(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Return a service of which only web runs, for all of the module."""
    service = Service(tmp_path_factory.mktemp("web"), "")
    service.start_web()
    yield service
    service.kill()


@pytest.fixture(autouse=True)
def no_outage() -> None:
    """End what earlier tests left: its beginning is logged, a few times."""
    for outage in (POSTGRES, PUBLISHING, fire._EARLY):
        outage.worked()
        outage._lines.clear()
    TROUBLES.clear()


@pytest.fixture
def clean_rows(db_pool: None) -> Iterator[None]:
    """Skip no row at first; afterwards let each be written again."""
    aside.skipped.clear()
    yield
    aside.skipped.clear()
    TROUBLES.clear()
    unseal()


@pytest.fixture
def memory_broker(
    db_pool: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> MemoryBroker:
    """Let the process be a standalone one, with a broker of its own."""
    settings.RABBITMQ_URL = ""
    broker = MemoryBroker()
    for queue in (ON_TIME, OVERDUE):
        broker.declare_queue(queue)
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    return broker


@pytest.fixture
def local_calls(
    memory_broker: MemoryBroker, settings: Settings
) -> Iterator[None]:
    """Let this process fire, at this machine and nowhere else."""
    settings.WEBHOOK_ALLOWED_NETWORKS = (ip_network("127.0.0.0/8"),)
    settings.WEBHOOK_SIGNING_KEYS = (parse_secret(SECRET),)
    call.client.forget()
    # Ports are given anew: another test's receiver may have hung there.
    call.destinations.forget()
    yield
    claims.stopping.clear()
    call.client().close()
    call.client.forget()


@pytest.fixture
def absent() -> Iterator[Receiver]:
    """Return a receiver that refuses connections until it listens."""
    receiver = Receiver(absent=True)
    yield receiver
    receiver.close()


@pytest.fixture
def use_rabbitmq(
    db_pool: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], LadderBroker]]:
    """Let the process use the RabbitMQ of a URL."""
    made: list[LadderBroker] = []

    def use(url: str) -> LadderBroker:
        settings.RABBITMQ_URL = url
        made.append(LadderBroker(url))
        monkeypatch.setattr(dramatiq.broker, "global_broker", made[-1])
        return made[-1]

    yield use
    for broker in made:
        broker.close()


@pytest.fixture
def ladder(
    use_rabbitmq: Callable[[str], LadderBroker],
    shared_vhost: tuple[str, Management],
) -> LadderBroker:
    """Let the process use the shared virtual host."""
    broker = use_rabbitmq(shared_vhost[0])
    # On a busy machine the first connection may take too long for a pass.
    eventually(lambda: broker.depth(ON_TIME) is not None)
    return broker


@pytest.fixture
def postgres(db_pool: None) -> Iterator[PostgresSwitch]:
    """Let a test take Postgres away from the timers' own statements."""
    switch = PostgresSwitch()
    yield switch
    switch.comes_back()

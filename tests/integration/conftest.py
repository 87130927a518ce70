"""Fixtures for tests that run the service as processes."""

import os
import ssl
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from apps.webhooks import client
from apps.webhooks.http.connection import tls_context
from tests.support.rabbitmq import Management, virtual_host
from tests.support.service import Service


@pytest.fixture(scope="session", autouse=True)
def _roots() -> Iterator[None]:
    """Load certifi's roots once: a process has one client, tests hundreds."""
    roots = cache(lambda: tls_context(None))

    def context(ca_file: str | None) -> ssl.SSLContext:
        return roots() if ca_file is None else tls_context(ca_file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "tls_context", context)
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


@pytest.fixture
def standalone(make_service: Callable[..., Service]) -> Service:
    """Return a running standalone service: web and worker."""
    service = make_service()
    service.start_all()
    return service


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

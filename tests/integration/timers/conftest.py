"""Fixtures for what runs in the test's own process."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import dramatiq
import pytest
from pytest_django import Settings

from apps.broker.memory import MemoryBroker
from apps.broker.rabbitmq import LadderBroker
from apps.timers import aside, database, firing
from apps.timers.actors import ON_TIME_QUEUE, OVERDUE_QUEUE
from apps.timers.outages import POSTGRES, PUBLISHING, TROUBLES
from apps.webhooks.signing import parse_secret
from tests.support.poison import unseal
from tests.support.ports import free_port
from tests.support.rabbitmq import Management
from tests.support.receiver import AbsentReceiver
from tests.support.service import SECRET
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def no_outage() -> None:
    """End what earlier tests left: only its beginning is logged."""
    for outage in (POSTGRES, PUBLISHING):
        outage.worked()
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
    for queue in (ON_TIME_QUEUE, OVERDUE_QUEUE):
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
    firing._client.forget()
    # Ports are given anew: another test's receiver may have hung there.
    firing._destinations.forget()
    yield
    firing.stopping.clear()
    firing._client().close()
    firing._client.forget()


@pytest.fixture
def absent() -> Iterator[AbsentReceiver]:
    """Return a receiver that refuses connections until it listens."""
    receiver = AbsentReceiver()
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
    vhost: tuple[str, Management],
) -> LadderBroker:
    """Let the process use a virtual host of its own."""
    broker = use_rabbitmq(vhost[0])
    # On a busy machine the first connection may take too long for a pass.
    eventually(lambda: broker.depth(ON_TIME_QUEUE) is not None)
    return broker


@pytest.fixture
def postgres(db_pool: None) -> Iterator["Postgres"]:
    """Let a test take Postgres away from the timers' own statements."""
    switch = Postgres()
    yield switch
    switch.comes_back()


class Postgres:
    """Postgres as the timers see it: there, or a port nobody listens on."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()

    def goes_away(self, port: int | None = None) -> None:
        """Have every statement fail from now on."""
        there = database.connection_arguments()
        gone: dict[str, Any] = {
            **there, "host": "127.0.0.1", "port": str(port or free_port())
        }
        self._patch.setattr(database, "connection_arguments", lambda: gone)
        database.close_pool()

    def comes_back(self) -> None:
        """Have statements work again."""
        self._patch.undo()
        database.close_pool()

"""Fixtures for tests that run the service as processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.receiver import Receiver
from tests.support.service import Service


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver that answers 200."""
    receiver = Receiver()
    yield receiver
    receiver.close()


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
        service.close()


@pytest.fixture
def standalone(make_service: Callable[..., Service]) -> Service:
    """Return a running standalone service: web and worker."""
    service = make_service()
    service.start_web()
    service.start_worker()
    return service

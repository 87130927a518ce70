"""Real processes write what they run, and how much waits for them."""

from collections.abc import Callable, Sequence

import pytest
from django.conf import settings

from apps.broker.rabbitmq import LadderBroker
from apps.core.database import pool
from apps.monitoring import processes
from apps.monitoring.processes import Row
from tests.support.rabbitmq import Management
from tests.support.rows import new_timers
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


def seen() -> Sequence[Row]:
    with pool().connection() as connection:
        return processes.seen(connection)


def test_processes_write_what_waits_for_them(
    make_service: Callable[..., Service],
    ladder: LadderBroker,
    shared_vhost: tuple[str, Management],
) -> None:
    # Given a dispatcher and timers that are overdue
    service = make_service(shared_vhost[0])
    new_timers(5, -5)
    service.start_dispatcher()
    eventually(lambda: [each.backlog for each in seen()] == [5], within=20)

    # When a worker calls them, Then none waits any more
    service.start_worker(threads=4)
    eventually(lambda: [each.backlog for each in seen()] == [0, 0], within=20)
    dispatcher, worker = seen()
    assert (dispatcher.threads, worker.threads) == (None, 128)
    assert {each.version for each in seen()} == {settings.VERSION}

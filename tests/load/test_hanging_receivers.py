"""How late timers are while other receivers hang (`-m load -s`)."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.webhooks.receivers import hanging
from tests.integration.webhooks.receivers import receiver as misbehaving
from tests.support.rabbitmq import virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import (
    each_called_once,
    show_lateness,
    store_timers,
    unended,
)
from tests.support.waiting import eventually

pytestmark = [pytest.mark.load, pytest.mark.rabbitmq]


@pytest.fixture
def stack(db_pool: None, tmp_path: Path) -> Iterator[Service]:
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, _):
        service = Service(tmp_path, url)
        service.start_all(threads=64)
        yield service
        service.kill()


@pytest.mark.parametrize("hanging_timers", [0, 40, 100])
def test_twenty_hosts_that_hang(stack: Service, hanging_timers: int) -> None:
    receiver = Receiver()
    with ExitStack() as exits:
        hosts = [
            exits.enter_context(misbehaving(hanging)) for _ in range(20)
        ]
        slow: set[str] = set()
        for host in hosts:
            slow |= store_timers(host.url(), [3.0] * (hanging_timers // 20))
        others = store_timers(
            receiver.url(), [3 + index / 50 for index in range(200)]
        )
        each_called_once(receiver, others, within=60)
        show_lateness(f"{hanging_timers} hang", receiver, others)
        eventually(lambda: not unended(slow), within=60)
    receiver.close()

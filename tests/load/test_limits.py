"""Limits of an account, held by three web processes together (`-m load -s`).

Twelve clients set timers one by one, under keys and many at a time, as fast as
that goes.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import HOOK
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.timers import value_of

pytestmark = pytest.mark.load

SECONDS = 10.0
FAR: dict[str, Any] = {"hours": 9, "minutes": 0, "seconds": 0, "url": HOOK}
LASTED = """
SELECT extract(epoch FROM max(created_at) - min(created_at))::float FROM timer
"""


@pytest.fixture
def hammer(tmp_path: Path, db_pool: None) -> Iterator[Callable[..., None]]:
    """Start the processes; return what limits the account, and asks them."""
    service = Service(tmp_path, "")
    ports = [free_port() for _ in range(3)]
    for port in ports:
        service.start_web(port)

    def client(number: int) -> None:
        until = time.monotonic() + SECONDS
        for step in count(number):
            port = ports[step % 3]
            if step % 4 == 0:
                service.request("POST", "/timers", [FAR] * 3, port=port)
            elif step % 4 == 1:
                key = f"/timer/by-key/{number}-{step}"
                service.request("PUT", key, FAR, port=port)
            else:
                service.request("POST", "/timer", FAR, port=port)
            if time.monotonic() > until:
                return

    def hammer(*limits: str) -> None:
        service.manage("accounts", "limits", "default", *limits)
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(client, range(12)))

    yield hammer
    service.kill()


def test_creates_a_second(hammer: Callable[..., None]) -> None:
    hammer("--creates-per-second", "60", "--burst", "120")
    stored, lasted = value_of("SELECT count(*) FROM timer"), value_of(LASTED)
    allowed = 120 + 60 * lasted
    print(f"\n{stored} timers in {lasted:.2f} s; allowed: {allowed:.1f}")
    assert abs(stored / allowed - 1) < 0.02


def test_outstanding(hammer: Callable[..., None]) -> None:
    hammer("--outstanding", "500")
    stored = value_of("SELECT count(*) FROM timer")
    print(f"\n{stored} timers; allowed: 500")
    assert stored == 500

"""How late an account's timers are beside another's backlog (`-m load -s`).

One account has 100,000 overdue timers when the service starts. Another one has
timers that are on time, and ten that are overdue: these became due last. A
third run has no backlog, so that it shows what the machine does.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.accounts import account
from tests.support.rabbitmq import virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import show_lateness, store_timers, unended
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.load, pytest.mark.rabbitmq, pytest.mark.timeout(600)
]

BACKLOG = int(os.environ.get("BACKLOG", "100000"))
#: Seconds until the first timers on time are due; and in which they are.
LEAD, SPAN = 15.0, 20.0


@pytest.fixture(params=["standalone", "stack"])
def service(
    request: pytest.FixtureRequest, db_pool: None, tmp_path: Path
) -> Iterator[Service]:
    with ExitStack() as exits:
        url = ""
        if request.param == "stack":
            url, _ = exits.enter_context(
                virtual_host(os.environ["RABBITMQ_URL"])
            )
        service = Service(tmp_path, url)
        exits.callback(service.kill)
        yield service


@pytest.mark.parametrize("accounts", [1, 1000])
@pytest.mark.parametrize("backlog", [0, BACKLOG])
def test_beside_a_backlog(
    service: Service, accounts: int, backlog: int
) -> None:
    flooding, other = account("flooding"), account("other")
    with closing(Receiver()) as theirs, closing(Receiver()) as mine:
        # Given a backlog, and other accounts' timers behind it
        for first in range(0, backlog, 10_000):
            store_timers(theirs.url(), [
                -3600 - random.random()
                for _ in range(min(10_000, backlog - first))
            ], flooding)
        for number in range(accounts - 1):
            store_timers(mine.url(), [-60], account(f"third-{number}"))
        overdue = store_timers(mine.url(), [-10] * 10, other)
        on_time = store_timers(mine.url(), [
            LEAD + random.uniform(0, SPAN) for _ in range(1000)
        ], other)

        # When the service starts
        began = time.time()
        if service.env["RABBITMQ_URL"]:
            service.start_dispatcher()
        service.start_worker(threads=64)
        started = time.time()
        eventually(lambda: not unended(overdue), within=400, every=0.1)
        eventually(lambda: not unended(on_time), within=400, every=0.5)
        calls = [c.arrived for c in mine.calls if c.timer in overdue]
        print(f"\nbacklog {backlog}, {accounts} others,"
              f" started after {started - began:.1f} s;"
              f" ten overdue called {min(calls) - started:.1f} to"
              f" {max(calls) - started:.1f} s after the start;"
              f" {len(theirs.calls)} of the backlog called in"
              f" {time.time() - started:.0f} s")
        show_lateness("on time", mine, on_time)

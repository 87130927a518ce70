"""How good the forecast of the page Ahead is (`-m load -s`).

Herds are staged: timers that are due at once, at receivers that take their
time. What the page says beforehand is compared with what comes of it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.dashboard import ahead
from tests.support.accounts import OWNER
from tests.support.rabbitmq import virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import store_timers, unended, value_of
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.load, pytest.mark.rabbitmq, pytest.mark.timeout(300)
]

#: Seconds until a herd is due; and calls by which its host is known.
LEAD, KNOWN = 8.0, 20
_LATE = """
SELECT max(extract(epoch FROM sent_at - due_at)) FROM timer
WHERE host = %s AND due_at = (SELECT max(due_at) FROM timer WHERE host = %s)
"""


@pytest.fixture
def stack(
    db_pool: None, tmp_path: Path, settings: Settings
) -> Iterator[Service]:
    settings.WORKER_THREADS = 64
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, _):
        service = Service(tmp_path, url)
        service.start_all(threads=64)
        service.start_worker(threads=64)
        yield service
        service.kill()


@pytest.mark.parametrize(
    "herds",
    [
        [(1500, 0.2)],
        [(600, 0.5)],
        [(200, 1.5)],
        [(500, 0.3), (500, 0.5)],
        [(4000, 0.02)],
    ],
    ids=str,
)
def test_a_herd_is_as_late_as_was_said(
    stack: Service, herds: Sequence[tuple[int, float]]
) -> None:
    with ExitStack() as exits:
        receivers = []
        for number, (_, seconds) in enumerate(herds):
            receiver = Receiver(host=f"127.0.0.{number + 2}")
            exits.callback(receiver.close)
            receiver.delay = seconds
            receivers.append(receiver)
        # Given that the hosts are known
        known: set[str] = set()
        for receiver in receivers:
            delays = [number * 0.1 for number in range(KNOWN)]
            known |= store_timers(receiver.url(), delays)
        eventually(lambda: not unended(known), within=60)

        # When a herd comes, and the page says how late the last one will be
        timers: set[str] = set()
        for receiver, (count, _) in zip(receivers, herds, strict=True):
            timers |= store_timers(receiver.url(), [LEAD] * count)
        ahead.fresh.forget()
        said = {
            each.herd.host: each.late for each in ahead.fresh(OWNER).herds
        }
        eventually(lambda: not unended(timers), within=200, every=0.2)

        # Then it is about as late
        for receiver, herd in zip(receivers, herds, strict=True):
            measured = float(value_of(_LATE, receiver.host, receiver.host))
            forecast = said[receiver.host]
            assert forecast is not None
            print(
                f"\n{herd}: said {forecast:.2f} s, was {measured:.2f} s,"
                f" {(forecast / measured - 1) * 100:+.0f} %"
            )
            assert 0.75 <= forecast / measured <= 1.25

"""How good the forecast of the page Ahead is (`-m load -s`).

Herds are staged: timers that are due at once, at receivers that take their
time. What the page says beforehand is compared with what comes of it.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

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
WHERE date_trunc('second', due_at) = %s
"""


@pytest.fixture
def stack(db_pool: None, tmp_path: Path) -> Iterator[Service]:
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, _):
        service = Service(tmp_path, url)
        service.start_all(threads=64)
        service.start_worker(threads=64)
        yield service
        service.kill()


@pytest.mark.parametrize(
    ("seconds", "herds"),
    [
        (0.7, [300]), (2.0, [200]), (3.0, [150]), (4.0, [150]),
        (1.5, [120, 120]),
    ],
    ids=str,
)
def test_herds_are_as_late_as_was_said(
    stack: Service, receiver: Receiver, seconds: float, herds: Sequence[int]
) -> None:
    # Given a host that is known
    receiver.delay = seconds
    known = store_timers(
        receiver.url(), [number * 0.1 for number in range(KNOWN)]
    )
    eventually(lambda: not unended(known), within=60)

    # When herds come a second apart, and the page says how late each will be
    timers: set[str] = set()
    for number, count in enumerate(herds):
        timers |= store_timers(receiver.url(), [LEAD + number] * count)
    ahead.fresh.forget()
    said = ahead.fresh(OWNER).herds
    assert len(said) == len(herds)
    eventually(lambda: not unended(timers), within=200, every=0.2)

    # Then they are about as late
    for each in said:
        measured = float(value_of(_LATE, each.herd.at))
        assert each.late is not None
        print(
            f"\n{each.herd.count} of {seconds:g} s: said {each.late:.2f} s,"
            f" was {measured:.2f} s, {(each.late / measured - 1) * 100:+.0f} %"
        )
        assert 0.75 <= each.late / measured <= 1.25

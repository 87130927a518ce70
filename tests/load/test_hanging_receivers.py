"""How late timers are while other receivers hang (`-m load -s`).

20 hosts that answer nothing have 50 timers each, healthy ones 1,000, all
due in the same 10 s. Two workers have 64 threads each, which the 1,000 that
hang would hold for 80 s. Without any that hang, it is what the machine does.
"""

import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection

from tests.support.rabbitmq import virtual_host
from tests.support.receiver import (
    Receiver,
    ScriptedReceiver,
    hanging,
    scripted,
)
from tests.support.service import Service
from tests.support.timers import (
    each_called_once,
    show_lateness,
    store_timers,
    unended,
)
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.load, pytest.mark.rabbitmq, pytest.mark.timeout(400)
]

#: Seconds until the first are due; and in which they are.
LEAD, SPAN = 4.0, 10.0
#: How long timers wait for a host that hangs, in seconds; 900 is usual.
PATIENCE = 20

_WEBHOOK_ID = re.compile(rb"webhook-id: (\S+)", re.IGNORECASE)
_STATES = """
SELECT coalesce(outcome, CASE WHEN fired_at IS NULL THEN 'waits'
                         ELSE 'under way' END)
       || ': ' || coalesce(split_part(error, ':', 1), 'no error'), count(*)
FROM timer WHERE id = ANY(%s) GROUP BY 1 ORDER BY 2 DESC
"""


@pytest.fixture
def stack(db_pool: None, tmp_path: Path) -> Iterator[Service]:
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, _):
        service = Service(
            tmp_path, url, WEBHOOK_CONNECT_RETRY_SECONDS=str(PATIENCE)
        )
        service.start_all(threads=64)
        service.start_worker(threads=64)
        yield service
        service.kill()


@pytest.mark.parametrize(
    ("healthy", "each_hangs", "span"),
    [(1, 0, SPAN), (1, 50, SPAN), (20, 50, SPAN), (1, 50, 0.0)],
)
def test_twenty_hosts_that_hang(
    stack: Service, healthy: int, each_hangs: int, span: float
) -> None:
    with ExitStack() as exits:
        receivers = [Receiver() for _ in range(healthy)]
        for each in receivers:
            exits.callback(each.close)
        hosts = [
            exits.enter_context(scripted(hanging)) for _ in range(20)
        ]
        slow: set[str] = set()
        for host in hosts:
            slow |= store_timers(host.url(), delays(each_hangs, span))
        others = [
            store_timers(each.url(), delays(1000 // healthy, SPAN))
            for each in receivers
        ]
        for each, timers in zip(receivers, others, strict=True):
            each_called_once(each, timers, within=90)
        everything = receivers[0]
        for each in receivers[1:]:
            everything.calls += each.calls
        print(f"\n{healthy} healthy; 20 × {each_hangs} due in {span:g} s")
        show_lateness("healthy", everything, set().union(*others))
        print("hanging, then:", states(slow), "called:", called(hosts))
        eventually(lambda: not unended(slow), within=240, every=0.5)
        print("hanging, in the end:", states(slow), "called:", called(hosts))


def delays(count: int, span: float) -> list[float]:
    """Return when so many timers are due, in seconds from now."""
    return [LEAD + random.uniform(0, span) for _ in range(count)]


def states(timers: set[str]) -> dict[str, int]:
    """Count the timers by outcome and kind of error."""
    with connection.cursor() as cursor:
        cursor.execute(_STATES, [[UUID(timer) for timer in timers]])
        return dict(cursor.fetchall())


def called(hosts: list[ScriptedReceiver]) -> int:
    """Return how many timers were called; assert that none was twice."""
    counts = Counter(
        _WEBHOOK_ID.findall(request)[0]
        for host in hosts
        for request in host.requests
    )
    assert set(counts.values()) <= {1}
    return len(counts)

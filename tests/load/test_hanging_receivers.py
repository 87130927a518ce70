"""How late timers are while other receivers hang (`-m load -s`).

20 hosts that answer nothing have 50 timers each, healthy ones 1,000, all
due in the same 10 s. Two worker processes have 64 threads each, as many as
one call for each of them and a few more would take for 10 s.
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

from tests.integration.webhooks.receivers import Receiver as Misbehaving
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

pytestmark = [
    pytest.mark.load, pytest.mark.rabbitmq, pytest.mark.timeout(400)
]

#: Seconds until the first are due; and in which they are.
LEAD, SPAN = 4.0, 10.0
#: How long timers wait for a host that hangs, in seconds; 900 is usual.
PATIENCE = 30

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


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("healthy", [1, 20])
def test_twenty_hosts_that_hang(
    stack: Service, healthy: int, at_once: bool
) -> None:
    with ExitStack() as exits:
        receivers = [Receiver() for _ in range(healthy)]
        for each in receivers:
            exits.callback(each.close)
        hosts = [
            exits.enter_context(misbehaving(hanging)) for _ in range(20)
        ]
        slow: set[str] = set()
        for host in hosts:
            slow |= store_timers(host.url(), delays(50, at_once))
        others = [
            store_timers(each.url(), delays(1000 // healthy, False))
            for each in receivers
        ]
        for each, timers in zip(receivers, others, strict=True):
            each_called_once(each, timers, within=90)
        everything = receivers[0]
        for each in receivers[1:]:
            everything.calls += each.calls
        print(f"\n{healthy} healthy hosts; the others due",
              "at once" if at_once else f"within {SPAN:g} s")
        show_lateness("healthy", everything, set().union(*others))
        print("hanging, then:", states(slow), "called:", called(hosts))
        eventually(lambda: not unended(slow), within=240, every=0.5)
        print("hanging, in the end:", states(slow), "called:", called(hosts))


def delays(count: int, at_once: bool) -> list[float]:
    """Return when so many timers are due, in seconds from now."""
    span = 0.0 if at_once else SPAN
    return [LEAD + random.uniform(0, span) for _ in range(count)]


def states(timers: set[str]) -> dict[str, int]:
    """Count the timers by outcome and kind of error."""
    with connection.cursor() as cursor:
        cursor.execute(_STATES, [[UUID(timer) for timer in timers]])
        return dict(cursor.fetchall())


def called(hosts: list[Misbehaving]) -> int:
    """Return how many timers were called; assert that none was twice."""
    counts = Counter(
        _WEBHOOK_ID.findall(request)[0]
        for host in hosts
        for request in host.requests
    )
    assert set(counts.values()) <= {1}
    return len(counts)

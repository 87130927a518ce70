"""How many timers a second one request sets, and what web needs for that."""

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from apps.timers.models import Timer
from tests.support.rabbitmq import virtual_host
from tests.support.service import Service

pytestmark = [pytest.mark.load, pytest.mark.rabbitmq]

LINES = 200_000


def _pieces(lines: int, hours: int) -> Iterator[bytes]:
    for first in range(0, lines, 500):
        yield b"".join(
            b"%b\n" % json.dumps({
                "hours": hours, "minutes": 0, "seconds": 30,
                "url": f"https://example.com/orders/{number}",
            }).encode()
            for number in range(first, first + 500)
        )


@pytest.fixture
def web_alone(db_pool: None, tmp_path: Path) -> Iterator[Service]:
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, _):
        service = Service(tmp_path, url)
        yield service
        service.kill()


@pytest.mark.parametrize("hours", [1, 0], ids=["far", "near"])
@pytest.mark.parametrize("key", [None, "bench"], ids=["", "idempotent"])
def test_setting_many_timers(
    web_alone: Service, hours: int, key: str | None
) -> None:
    service = web_alone
    web = service.start_web()
    processes = [
        psutil.Process(web.pid),
        *psutil.Process(web.pid).children(recursive=True),
    ]
    sent = list(_pieces(LINES, hours))
    connection = http.client.HTTPConnection(
        service.host, service.port, timeout=120
    )
    headers = {"content-type": "application/x-ndjson"}
    if key:
        headers["idempotency-key"] = key
    began = time.monotonic()
    try:
      connection.request(
        "POST", "/timers", iter(sent), headers, encode_chunked=True
      )
    except BrokenPipeError:
        a=connection.getresponse(); print(a.status, a.read(), service.log()[-3000:]); raise
    answer = connection.getresponse()
    body = answer.read()
    took = time.monotonic() - began
    assert answer.status == 200, body
    assert body.count(b'"id"') == Timer.objects.count() == LINES
    memory = max(each.memory_info().rss for each in processes)
    used = sum(sum(each.cpu_times()[:2]) for each in processes)
    print(
        f"\n{LINES / took:,.0f} timers a second, {used / LINES * 1e6:.0f} µs"
        f" of web's processor each, {memory / 2**20:.0f} MiB"
    )

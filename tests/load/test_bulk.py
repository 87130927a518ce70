"""How many timers a second one request sets, and what web needs for that."""

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from apps.timers.models import Timer
from tests.load.lateness import summary
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


def _create_others(
    service: Service, is_over: threading.Event, took: list[float]
) -> None:
    while not is_over.wait(0.02):
        began = time.monotonic()
        service.set_timer(3600, "http://127.0.0.1:9/")
        took.append((time.monotonic() - began) * 1000)


def _send(service: Service, sent: list[bytes], key: str | None) -> bytes:
    connection = http.client.HTTPConnection(
        service.host, service.port, timeout=120
    )
    headers = {"content-type": "application/x-ndjson"}
    if key:
        headers["idempotency-key"] = key
    connection.request(
        "POST", "/timers", iter(sent), headers, encode_chunked=True
    )
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


@pytest.mark.parametrize("hours", [1, 0], ids=["far", "near"])
@pytest.mark.parametrize("key", [None, "bench"], ids=["", "idempotent"])
def test_setting_many_timers(
    web_alone: Service, hours: int, key: str | None
) -> None:
    service = web_alone
    web = service.start_web()
    service.start_dispatcher()
    processes = psutil.Process(web.pid).children(recursive=True)
    sent = list(_pieces(LINES, hours))
    before: list[float] = []
    _create_others(service, _ends_in(2), before)
    while_it_runs: list[float] = []
    is_over = threading.Event()
    others = threading.Thread(
        target=_create_others, args=(service, is_over, while_it_runs)
    )
    others.start()

    began = time.monotonic()
    body = _send(service, sent, key)
    took = time.monotonic() - began

    is_over.set()
    others.join()
    assert body.count(b'"id"') == LINES
    assert Timer.objects.count() == LINES + len(before + while_it_runs)
    memory = max(each.memory_info().rss for each in processes)
    print(
        f"\n{LINES / took:,.0f} timers a second, {memory / 2**20:.0f} MiB;"
        f" POST /timer before: {summary(before)};"
        f" meanwhile: {summary(while_it_runs)}"
    )


def _ends_in(seconds: float) -> threading.Event:
    event = threading.Event()
    threading.Timer(seconds, event.set).start()
    return event

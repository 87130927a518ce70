"""How late healthy timers are beside 300 slow names (`-m load -s`).

Each name has one timer with 30 attempts, so that 300 calls are wanted all
the time; two workers have 64 threads each. A name is a host and a port:
300 ports of one address, or one port of 300 addresses.
"""

import asyncio
import contextlib
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import uuid_utils.compat

from apps.timers.storage import creating
from apps.timers.storage.records import Definition, NewTimer
from apps.webhooks.retry import RetryPolicy
from tests.support.accounts import OWNER
from tests.support.ports import free_port
from tests.support.rabbitmq import virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import each_called_once, show_lateness, store_timers

pytestmark = [
    pytest.mark.load, pytest.mark.rabbitmq, pytest.mark.timeout(400)
]

NAMES = 300
#: Seconds until the slow ones are due, and within which; the healthy ones
#: are due within as many seconds after the first slow ones.
LEAD, SLOW_SPAN, SPAN = 4.0, 5.0, 30.0
_ERROR = b"HTTP/1.1 500 Slow\r\nContent-Length: 0\r\n\r\n"
_RETRIES = RetryPolicy(30, 1, 1, unanswered=False)


@contextmanager
def slow_names(addresses: int, seconds: float) -> Iterator[list[str]]:
    """Listen on 300 names; answer 500 after so many seconds."""
    loop = asyncio.new_event_loop()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the test is over
            while (await reader.readline()).strip():
                pass
            await asyncio.sleep(seconds)
            writer.write(_ERROR)
        writer.close()

    async def stop() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop.stop()

    async def listen() -> list[str]:
        urls = []
        port = free_port()
        for number in range(NAMES):
            host = f"127.0.{1 + number % addresses // 250}"
            host += f".{1 + number % addresses % 250}"
            server = await asyncio.start_server(
                answer, host, port if addresses > 1 else 0
            )
            urls.append(f"http://{host}:{server.sockets[0].getsockname()[1]}")
        return urls

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop)
        thread.join(10)


@pytest.fixture
def stack(db_pool: None, tmp_path: Path) -> Iterator[Service]:
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, _):
        service = Service(tmp_path, url)
        service.start_all(threads=64)
        service.start_worker(threads=64)
        yield service
        service.kill()


@pytest.mark.parametrize(
    ("addresses", "seconds"),
    [(1, 9.0), (NAMES, 0.5), (NAMES, 2.0), (NAMES, 9.0), (NAMES, 60.0)],
)
def test_three_hundred_slow_names(
    stack: Service, addresses: int, seconds: float
) -> None:
    healthy = Receiver()
    try:
        with slow_names(addresses, seconds) as urls:
            creating.create([
                NewTimer(
                    uuid_utils.compat.uuid7(),
                    OWNER,
                    Definition(url, retry=_RETRIES),
                    timedelta(seconds=LEAD + random.uniform(0, SLOW_SPAN)),
                    queued=False,
                )
                for url in urls
            ])
            timers = store_timers(
                healthy.url(),
                [LEAD + random.uniform(0, SPAN) for _ in range(1000)],
            )
            each_called_once(healthy, timers, within=120)
            print(f"\n{NAMES} names at {addresses}, {seconds:g} s each")
            show_lateness("healthy", healthy, timers)
    finally:
        healthy.close()

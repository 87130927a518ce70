"""How long after a request has left is its mark committed (`-m load -s`).

A worker that is killed in between leaves a timer that is called twice: as
many as calls a second times this latency, for each kill. It is measured
with Postgres's own commit timestamps, from outside of the code: a row whose
outcome is not there yet was last written by its mark.
"""

import asyncio
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.load.lateness import Client, Receiver
from tests.support.rabbitmq import virtual_host
from tests.support.servers import OwnPostgres
from tests.support.service import Service

pytestmark = [pytest.mark.load, pytest.mark.rabbitmq]

#: How long the receiver takes, and how often marks are looked for meanwhile,
#: in seconds.
DELAY = 1.0
EVERY = 0.3
SECONDS = 15

#: A commit's timestamp is taken before its flush to disk.
_MARKED = """
SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin) - sent_at)
FROM timer WHERE sent_at IS NOT NULL AND outcome IS NULL
"""
_FLUSH = """
SELECT sum(fsync_time) / sum(fsyncs) / 1000
FROM pg_stat_io WHERE object = 'wal' AND context = 'normal'
"""


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[OwnPostgres]:
    with OwnPostgres(
        tmp_path, track_commit_timestamp="on", track_wal_io_timing="on"
    ) as server:
        yield server


@pytest.fixture
def stack(postgres: OwnPostgres, tmp_path: Path) -> Iterator[Service]:
    with virtual_host(os.environ["RABBITMQ_URL"]) as (url, _):
        service = Service(tmp_path, url, DATABASE_URL=postgres.url)
        service.manage("migrate", "--verbosity", "0")
        service.start_all(threads=256)
        service.start_worker(threads=256)
        yield service
        service.kill()


@pytest.mark.parametrize("rate", [20, 100, 300])
def test_marks_are_committed(
    stack: Service, postgres: OwnPostgres, rate: int
) -> None:
    latencies, flush = asyncio.run(measure(stack, postgres.url, rate))
    parts = statistics.quantiles(latencies, n=100)
    mean = statistics.mean(latencies) + flush
    print(
        f"{rate} calls/s: {len(latencies)} marks of {rate * SECONDS},"
        f" committed after {parts[49] * 1000:.1f} ms (p50),"
        f" {parts[98] * 1000:.1f} ms (p99),"
        f" {max(latencies) * 1000:.1f} ms (most),"
        f" then {flush * 1000:.1f} ms for the flush;"
        f" {rate * mean:.2f} called twice for each kill of everything"
    )
    assert min(latencies) >= 0
    assert len(latencies) > 0.9 * rate * SECONDS


async def measure(
    stack: Service, database_url: str, rate: int
) -> tuple[list[float], float]:
    """Return marks' latencies, and a flush's mean duration, in seconds."""
    receiver = Receiver(DELAY)
    server = await asyncio.start_server(
        receiver.handle, "127.0.0.1", 0, backlog=4096
    )
    port = server.sockets[0].getsockname()[1]
    client = Client(f"http://127.0.0.1:{stack.port}")
    timers = asyncio.create_task(
        client.set_all(
            [2] * rate * SECONDS, f"http://127.0.0.1:{port}/", rate
        )
    )
    found: dict[object, float] = {}
    with psycopg.connect(database_url, autocommit=True) as link:
        while not timers.done() or len(receiver.calls) < len(client.ids):
            found.update(
                (row[0], float(row[1])) for row in link.execute(_MARKED)
            )
            await asyncio.sleep(EVERY)
        row = link.execute(_FLUSH).fetchone()
    server.close()
    await timers
    assert row is not None
    return list(found.values()), float(row[0])

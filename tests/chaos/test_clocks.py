"""Servers whose clocks are wrong: Postgres's alone decides what is due."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.experiment import Experiment, Note
from tests.support.receiver import Receiver
from tests.support.servers import OwnPostgres, OwnRabbitMQ
from tests.support.service import Service

#: So wrong are the clocks, the one fast and the other slow, in seconds.
SKEW = 5
# With the monotonic clock left alone, libfaketime before 0.9.11 has Python's
# time.sleep() fail: https://github.com/wolfcw/libfaketime/issues/426
_SLEEP = """\
import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

pytestmark = pytest.mark.skipif(
    _LIBRARY is None, reason="libfaketime is missing: apt-get install faketime"
)


@pytest.fixture
def servers(
    service: Service,
    postgres: OwnPostgres,
    rabbitmq: OwnRabbitMQ,
    tmp_path: Path,
) -> Iterator[list[Service]]:
    """Start a server whose clock is fast and one whose clock is slow."""
    made = []
    (tmp_path / "sitecustomize.py").write_text(_SLEEP)
    for skew in (SKEW, -SKEW):
        directory = tmp_path / f"{skew:+d}"
        directory.mkdir()
        made.append(
            Service(
                directory,
                rabbitmq.url,
                DATABASE_URL=postgres.url,
                LD_PRELOAD=str(_LIBRARY),
                FAKETIME=f"{skew:+d}s",
                FAKETIME_DONT_FAKE_MONOTONIC="1",
                # Its care for an old glibc's locks makes them very slow.
                FAKETIME_FORCE_MONOTONIC_FIX="0",
                PYTHONPATH=str(tmp_path),
            )
        )
    for server in made:
        server.start_all(threads=64)
    yield made
    for server in made:
        server.kill()


def clocks_of(server: Service) -> tuple[float, float]:
    """Return how far a server's clocks are ahead: the day's, monotonic."""
    code = "import time; print([time.time(), time.monotonic()])"
    began = time.time(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=server.env, capture_output=True, check=True,
    )
    day, monotonic = json.loads(done.stdout)
    return day - began[0], monotonic - began[1]


def test_clocks_are_wrong(
    servers: list[Service],
    postgres: OwnPostgres,
    receiver: Receiver,
    note: Note,
) -> None:
    for server, skew in zip(servers, (SKEW, -SKEW), strict=True):
        assert clocks_of(server) == pytest.approx((skew, 0), abs=1)
    timers = Experiment(
        "two servers' clocks 5 s fast and 5 s slow",
        [(server.host, server.port) for server in servers],
        receiver,
        postgres.url,
    )
    timers.set_timers(1_500, rate=100, seconds=range(1, 9))
    timers.all_set()
    timers.healed()
    row = note(timers.judge(within=60))
    assert row.lost == row.twice == row.unknown == row.refused == 0
    assert row.late_max < SKEW - 1
    for call in receiver.calls:
        said = int(call.headers["webhook-timestamp"])
        assert abs(said - call.arrived) < SKEW - 1
    for server in servers:
        assert "timer delivered" in server.log()

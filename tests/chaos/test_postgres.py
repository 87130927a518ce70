"""Postgres is restarted, killed, stopped for long, stalled and cut off.

No process of ours dies of it, and whoever had a claim keeps it: nothing is
taken over before workers had the time to report. So none of it makes a
second call, also where the request had left and its mark had not.
"""

import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.chaos.experiment import Make, Note
from tests.chaos.steady import Steady
from tests.support.receiver import Receiver
from tests.support.servers import OwnPostgres, OwnRabbitMQ, PostgresLine
from tests.support.service import Service
from tests.support.timers import depth
from tests.support.waiting import eventually

#: How many seconds after Postgres is back all is normal.
BACK_TO_NORMAL = 10.0
#: The same if a claim was held back on its way, whose worker has given up: a
#: lease begins only then, and what follows its end.
LEASE_ENDED = 30.0
#: An outage that outlasts a lease, in seconds.
LONG = 30.0


@pytest.fixture
def line(postgres: OwnPostgres, service: Service) -> Iterator[PostgresLine]:
    """Put a bad line between the service's processes and Postgres."""
    line = PostgresLine(postgres)
    service.env["DATABASE_URL"] = line.url
    yield line
    line.close()


@pytest.fixture
def other_line(postgres: OwnPostgres) -> Iterator[PostgresLine]:
    """Make a bad line to Postgres for one of them."""
    line = PostgresLine(postgres)
    yield line
    line.close()


@pytest.mark.parametrize("fault", ["restarted", "killed"])
def test_it_is_away_for_moments(
    service: Service,
    postgres: OwnPostgres,
    experiment: Make,
    note: Note,
    fault: str,
) -> None:
    end = {"restarted": postgres.stop, "killed": postgres.kill}[fault]
    timers = experiment(f"Postgres {fault}, three times")
    service.start_all(threads=64)
    steady = Steady(service)
    timers.receiver.jitter = 0.3
    timers.set_timers(2_500, rate=120, seconds=range(1, 7))
    for _ in range(3):
        time.sleep(4)
        end()
        time.sleep(1)
        postgres.start()
    timers.healed()
    row = note(timers.judge(within=60))
    assert (row.lost, row.twice, row.unknown) == (0, 0, 0)
    assert row.refused > 0
    assert row.normal_after < BACK_TO_NORMAL
    steady.check()


def test_it_is_away_for_longer_than_a_lease(
    service: Service,
    postgres: OwnPostgres,
    rabbitmq: OwnRabbitMQ,
    receiver: Receiver,
    experiment: Make,
    note: Note,
) -> None:
    service.start_all(threads=64)
    steady = Steady(service)
    timers = experiment(f"Postgres stopped for {LONG:.0f} s")
    # Given messages for all of that time, and calls under way
    receiver.jitter = 0.1
    timers.set_timers(1_500, rate=150, seconds=range(12, 40))
    timers.all_set()
    # (to a receiver that has answered, which may have that many at once)
    timers.set_timer(0)
    eventually(lambda: receiver.calls)
    receiver.gate.clear()
    under_way = [timers.set_timer(0) for _ in range(40)]
    eventually(lambda: len(receiver.calls) >= len(under_way) + 1)

    # When it stops, and the calls are answered while it is away
    postgres.stop()
    time.sleep(3)
    receiver.gate.set()
    timers.set_timers(50, rate=5, seconds=[1])
    time.sleep(LONG - 3)
    postgres.start()
    timers.healed()

    # Then their answers count, and no message became a dead letter
    row = note(timers.judge(within=60))
    assert (row.lost, row.twice, row.unknown) == (0, 0, 0)
    assert row.refused > 0
    assert row.normal_after < BACK_TO_NORMAL
    for queue in ("timers.XQ", "timers.overdue.XQ"):
        assert depth(rabbitmq.url, queue) == 0
    steady.check()


@pytest.mark.parametrize(
    ("fault", "is_lost"),
    [
        pytest.param("stalled", False, id="stalled"),
        pytest.param("cut off", True, id="cut off"),
    ],
)
def test_it_is_cut_off_from_all(
    service: Service,
    postgres: OwnPostgres,
    line: PostgresLine,
    other_line: PostgresLine,
    experiment: Make,
    note: Note,
    fault: str,
    is_lost: bool,
) -> None:
    service.start_web()
    service.start_worker(threads=64)
    service.start_dispatcher(DATABASE_URL=other_line.url)
    steady = Steady(service)
    # A mark needs 60 ms to get through; a call's claim twice as much.
    line.delay = 0.02
    timers = experiment(f"Postgres, 40 ms away, {fault} for {LONG:.0f} s")
    timers.receiver.jitter = 0.3
    timers.set_timers(400, rate=80, seconds=range(15, 45))
    timers.set_timers(1_000, rate=100, seconds=[1])

    # When nothing gets through any more, though calls have just left
    eventually(lambda: len(timers.receiver.calls) > 400, within=20)
    unmarked = _cut(line, timers.receiver, postgres)
    other_line.black_hole()
    print(f"{fault}: {unmarked} calls had left and were not marked")
    time.sleep(4)
    if is_lost:
        line.lose()
        other_line.lose()
    time.sleep(LONG - 4)
    # The dispatcher is there before those who know better.
    other_line.restore()
    time.sleep(1)
    line.restore()
    timers.healed()

    # Then whoever made them may report it before they are made again
    row = note(timers.judge(within=90))
    assert (row.lost, row.twice, row.unknown) == (0, 0, 0)
    assert row.normal_after < LEASE_ENDED
    steady.check()


def _cut(
    line: PostgresLine, receiver: Receiver, postgres: OwnPostgres
) -> int:
    """Let nothing through from when calls have just left; count them."""
    for _ in range(20):
        line.black_hole()
        # Until what has passed the line is written, and the calls noted.
        time.sleep(0.3)
        if unmarked := _unmarked(receiver, postgres):
            return unmarked
        line.restore()
        time.sleep(0.2)
    raise AssertionError("no call is ever unmarked")


def _unmarked(receiver: Receiver, postgres: OwnPostgres) -> int:
    """Count the calls that Postgres does not know to have been made."""
    with psycopg.connect(postgres.url) as link:
        rows = link.execute(
            "SELECT id FROM timer"
            " WHERE leased_until IS NOT NULL AND sent_at IS NULL"
        ).fetchall()
    return len({str(timer) for (timer,) in rows} & set(receiver.counts()))

"""How creates, calls and promotions grow with processes, and their cost.

Each number of processes gets a service of its own, begun anew, on the same
two servers; web and worker processes are never at work at the same time.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psutil  # type: ignore[import-untyped]
import psycopg

from deploy import commands
from tests.load.bench import measures, usage
from tests.load.bench.generator import drive
from tests.load.bench.run import ground
from tests.load.bench.sides import Ground, Side, Stack
from tests.support.rabbitmq import Management
from tests.support.waiting import eventually

#: As many processes as `make stack` has.
USUAL = 2
#: How long after they were set near timers are due at the latest, seconds.
_LEAD = 40.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured: processes, seconds, timers, timers a second."""

    processes: tuple[int, ...] = (1, 2, 3, 4)
    dispatchers: tuple[int, ...] = (1, 2, 3)
    seconds: float = 6
    burst: int = 6_000
    promoted: int = 20_000
    rates: tuple[int, ...] = (100, 400)
    rate_seconds: float = 10


QUICK = Sizes((1, 2), (1,), 1, 600, 2_000, (100,), 3)


@dataclass
class Phase:
    """What so many timers took; what is not a rate is for each timer."""

    timers: int
    seconds: float
    cores: float                # used by all there is, bench included
    cpu_ms: dict[str, float]    # of each part
    wal_bytes: float
    commits: float              # of transactions that wrote
    table_bytes: float = 0.0    # by which tables and indexes grew
    index_bytes: float = 0.0
    network_bytes: float = 0.0  # over TCP; here Postgres's go another way
    others: float = 0.0         # cores that other programs used meanwhile

    @property
    def rate(self) -> float:
        """Timers a second."""
        return self.timers / self.seconds


@dataclass
class Growth:
    """The phases by their kind, then by the number of processes."""

    phases: dict[str, dict[int, Phase]] = field(default_factory=dict)
    #: Open to Postgres and to RabbitMQ, by the number of processes.
    connections: dict[int, tuple[int, int]] = field(default_factory=dict)
    commit_ms: float = 0.0      # that a commit waits for the disk
    cores: int = 0              # of the machine that was measured

    def note(self, kind: str, processes: int, phase: Phase) -> None:
        """Keep a phase, and say what came of it."""
        self.phases.setdefault(kind, {})[processes] = phase
        print(
            f"{time.strftime('%H:%M:%S')} {kind}, {processes}:"
            f" {phase.rate:,.0f}/s with {phase.cores:.2f} cores",
            file=sys.stderr, flush=True,
        )


class _Sized(Stack):
    """The service with so many web and so many worker processes."""

    def __init__(self, ground: Ground, processes: int) -> None:
        super().__init__("scaling", "this service", ground)
        self._processes = str(processes)

    def _environment(self, database: str, rabbitmq: str) -> dict[str, str]:
        return {
            **super()._environment(database, rabbitmq),
            "WEB_WORKERS": self._processes,
            "WORKER_PROCESSES": self._processes,
        }


class _Dispatchers(Stack):
    """So many dispatchers, and nothing else."""

    def __init__(self, ground: Ground, processes: int) -> None:
        super().__init__("dispatchers", "dispatchers", ground)
        self._processes = processes

    def _commands(self) -> dict[str, list[str]]:
        return {
            f"dispatcher {index}": commands.DISPATCHER[1:]
            for index in range(self._processes)
        }

    def _own_parts(self) -> dict[str, list[int]]:
        return Side._own_parts(self)


class _Watch:
    """Counts what is used between two moments."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._parts = usage.cpu_of(side.parts())
        self._began = time.monotonic()
        self._all = usage.cpu(usage.tree(os.getpid()))
        self._machine = _busy()
        self._written = _written(side)

    def phase(self, timers: int, seconds: float) -> Phase:
        """Return the phase that ends now; it made timers for so long."""
        used = usage.used(self._parts, self._side.parts())
        ours = usage.cpu(usage.tree(os.getpid())) - self._all
        others = _busy() - self._machine - ours
        others /= time.monotonic() - self._began
        written = [
            (now - before) / timers for now, before in
            zip(_written(self._side), self._written, strict=True)
        ]
        cpu_ms = {part: 1000 * s / timers for part, s in used.items()}
        wal, commits, tables, indexes, network = written
        return Phase(
            timers, seconds, ours / seconds, cpu_ms, wal, commits,
            tables, indexes, network, max(others, 0.0),
        )


def _busy() -> float:
    """Return the seconds that the machine's cores have been busy."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest)


def _written(side: Side) -> tuple[float, ...]:
    """Return bytes of WAL, writing transactions, bytes kept, bytes sent."""
    with psycopg.connect(side.database_url, autocommit=True) as link:
        row = link.execute(
            """
            SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),
                   pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                   pg_table_size('timer') + pg_table_size('attempt'),
                   pg_indexes_size('timer') + pg_indexes_size('attempt')
            """
        ).fetchone()
    assert row is not None
    sent = psutil.net_io_counters(pernic=True)["lo"].bytes_sent
    return *(float(number) for number in row), sent


def measure(sizes: Sizes) -> Growth:
    """Measure every number of processes."""
    found = Growth(cores=psutil.cpu_count())
    with ground() as servers:
        for processes in sizes.processes:
            with _started(_Sized(servers, processes)) as side:
                measures.warm_up(side)
                _growth(side, processes, sizes, found)
        for processes in sizes.dispatchers:
            with _started(_Dispatchers(servers, processes)) as side:
                _promotion(side, processes, sizes, found)
    return found


@contextmanager
def _started(side: Side) -> Iterator[Side]:
    with side:
        side.start()
        if isinstance(side, _Sized):
            side.wait()
        yield side


def _rates(side: Side, sizes: Sizes, found: Growth) -> None:
    """Measure timers at a steady rate, from create to call."""
    for rate in sizes.rates:
        watch = _Watch(side)
        calls, _ = measures.lateness(side, rate, sizes.rate_seconds)
        count = len(calls.late_ms)
        found.note(
            f"at {rate}/s", USUAL,
            watch.phase(count, calls.last - calls.first),
        )


def _growth(
    side: Side, processes: int, sizes: Sizes, found: Growth
) -> None:
    watch = _Watch(side)
    far = measures.far(side, sizes.seconds)
    phase = watch.phase(len(far.timers), far.seconds)
    found.note("far", processes, phase)
    if processes == USUAL:
        found.commit_ms = _commit_ms(side)
        _rates(side, sizes, found)
    # All of them are set, and asleep in RabbitMQ, before the first is due.
    due = time.time() + min(_LEAD, 3 * sizes.burst / phase.rate + 3)
    side.receiver.forget()
    watch = _Watch(side)
    near = drive(
        side.port,
        measures.due_together(sizes.burst, due, side.receiver.url),
    )
    eventually(lambda: due - time.time() < 1, within=_LEAD + 1, every=0.02)
    found.note(
        "near", processes, watch.phase(len(near.timers), near.seconds)
    )
    _calls(side, processes, due, near.timers, found)


def _commit_ms(side: Side) -> float:
    """Return what a commit waits for the disk, in ms: the median of 50."""
    taken = []
    with psycopg.connect(side.database_url, autocommit=True) as link:
        for _ in range(50):
            began = time.monotonic()
            link.execute("SELECT pg_logical_emit_message(true, 'bench', '')")
            taken.append(1000 * (time.monotonic() - began))
    return statistics.median(taken)


def _calls(
    side: Side, processes: int, due: float, timers: set[str], found: Growth
) -> None:
    watch = _Watch(side)
    measures.wait_for(side.receiver, len(timers), within=300, quiet=2)
    calls = measures.counted(timers, side.receiver.take())
    wrong = calls.missing, calls.twice, calls.early
    assert wrong == (0, 0, 0), wrong
    found.note(
        "calls", processes, watch.phase(len(timers), calls.last - due)
    )
    found.connections[processes] = _connections(side)


def _connections(side: Side) -> tuple[int, int]:
    rabbitmq = side.ground.rabbitmq
    with psycopg.connect(side.database_url) as link:
        row = link.execute(
            "SELECT count(*) - 1 FROM pg_stat_activity"
            " WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    overview = Management(rabbitmq.management_url, "/").call(
        "GET", "/overview"
    )
    return row[0], overview["object_totals"]["connections"]


def _promotion(
    side: Side, processes: int, sizes: Sizes, found: Growth
) -> None:
    """Let dispatchers that are at rest find many timers that are near."""
    time.sleep(3)       # until all of them have begun
    watch = _Watch(side)
    with psycopg.connect(side.database_url, autocommit=True) as link:
        link.execute(
            """
            INSERT INTO timer (id, url, created_at, due_at, next_at)
            SELECT uuidv7(), 'http://127.0.0.1/', now(), due, due
            FROM generate_series(1, %(count)s) AS n, LATERAL (
                SELECT now() + make_interval(secs => 50 + 9.0 * n / %(count)s)
                       AS due
            ) AS times
            """,
            {"count": sizes.promoted},
        )
        # What it took to set them is not to be counted.
        watch = _Watch(side)
        eventually(
            lambda: not _asked(link, "count(*) - count(queued_at)"),
            within=40, every=0.25,
        )
        seconds = _asked(
            link, "extract(epoch FROM max(queued_at) - min(queued_at))"
        )
    found.note(
        "promotions", processes, watch.phase(sizes.promoted, seconds)
    )


def _asked(link: psycopg.Connection[Any], what: LiteralString) -> float:
    row = link.execute(f"SELECT ({what})::float8 FROM timer").fetchone()
    assert row is not None
    return float(row[0])

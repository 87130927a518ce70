"""The order in which everything is measured, and how much of it."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.load.bench import bare, machine, measures
from tests.load.bench.generator import drive
from tests.load.bench.measures import Calls
from tests.load.bench.receiver import Receiver
from tests.load.bench.sides import Ground, Side, sides
from tests.support.servers import OwnPostgres, OwnRabbitMQ

#: What is measured apart from the sides.
MACHINE = "machine"
SERVICE, CEILING = "service", "ceiling"
#: What no side can exceed, measured beside each: its figure's name, and this.
LIMIT = " limit"
#: A burst's timers are set in advance, but within what is near.
_LONGEST_LEAD = 55.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured: seconds, timers, timers a second."""

    seconds: float = 15
    idle_seconds: float = 20
    rates: tuple[int, ...] = (100, 500)
    rate_seconds: float = 20
    burst: int = 10_000
    #: Sleeping timers: one step after the other.
    asleep: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    #: The same for those that keep them in memory, or set them one by one.
    rivals_asleep: tuple[int, ...] = (5_000, 20_000)
    overdue: int = 100_000
    #: So long a side may take for its overdue timers, in seconds.
    recovery_seconds: float = 300


QUICK = Sizes(
    seconds=0.5,
    idle_seconds=1,
    rates=(100,),
    rate_seconds=2,
    burst=500,
    asleep=(),
    rivals_asleep=(),
    overdue=500,
    recovery_seconds=60,
)


@dataclass
class Figures:
    """What was measured of one side, by the figure's name."""

    numbers: dict[str, float] = field(default_factory=dict)
    #: 1,001 quantiles of lateness in ms, the least and the most included.
    late: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, name: str, calls: Calls) -> None:
        """Keep the lateness of calls, and count those that are wrong."""
        if calls.late_ms:
            self.late[name] = [calls.late(n / 1000) for n in range(1001)]
        for kind in "missing", "twice", "early":
            so_far = self.numbers.get(kind, 0)
            self.numbers[kind] = so_far + getattr(calls, kind)

    def note_rate(self, name: str, rate: float, limit: float) -> None:
        """Keep a rate, and the limit that was measured beside it."""
        self.numbers[name] = rate
        self.numbers[name + LIMIT] = limit

    def note_cpu(self, work: str, cpu_ms: dict[str, float]) -> None:
        """Keep what a timer cost in each part, and in all."""
        self.numbers[f"{work} cpu"] = sum(cpu_ms.values())
        for part, spent in cpu_ms.items():
            self.numbers[f"{work} cpu {part}"] = spent


Results = dict[str, Figures]


@dataclass
class Run:
    """What was measured, the sides' titles, and where it was measured."""

    sizes: Sizes
    results: Results
    titles: dict[str, str]
    about: str


def run(sizes: Sizes, only: list[str]) -> Run:
    """Measure every side, or those of the names in `only`."""
    with ground() as servers:
        ceiling, *others = sides(servers)
        chosen = [
            side for side in others if not only or side.name in only
        ]
        titles = {side.name: side.title for side in [ceiling, *chosen]}
        about = machine.about(servers)
        results = {MACHINE: _machine(servers.receiver)}
        with ceiling:
            ceiling.start()
            ceiling.wait()
            measures.far(ceiling, 1)
            for side in chosen:
                _say(side.title)
                results[side.name] = _side(side, ceiling, sizes)
    results[CEILING] = _limits(results)
    return Run(sizes, results, titles, about)


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """Start the servers and the receiver of a run of its own."""
    with contextlib.ExitStack() as exits:
        directory = Path(
            exits.enter_context(TemporaryDirectory(prefix="timer-bench-"))
        ).resolve()
        _say("starting PostgreSQL and RabbitMQ")
        yield Ground(
            directory,
            exits.enter_context(OwnPostgres(directory)),
            exits.enter_context(OwnRabbitMQ(directory)),
            exits.enter_context(Receiver()),
        )


def _machine(receiver: Receiver) -> Figures:
    """Measure our own means."""
    driven = drive(receiver.port, measures.for_seconds(1, 0, receiver.url))
    receiver.forget()
    return Figures({"receiver": driven.answers / driven.seconds})


def _limits(results: Results) -> Figures:
    """Return what the no-op, and the bare loop, made beside all the others."""
    found = Figures()
    for key in "far", "near", "burst":
        limits = [
            figures.numbers[key + LIMIT] for figures in results.values()
            if key + LIMIT in figures.numbers
        ]
        if limits:
            found.numbers[key] = statistics.median(limits)
    return found


def _side(side: Side, ceiling: Side, sizes: Sizes) -> Figures:
    found = Figures()
    steps: list[Callable[[Side, Sizes, Figures], None]] = [
        partial(_running, ceiling), _sleeping, _recovery
    ]
    for step in steps:
        try:
            with side:
                step(side, sizes, found)
        except Exception as error:  # what is left is to be measured
            failure = f"{type(error).__name__}: {error}"
            found.failures.append(failure)
            _say(f"{failure}{side.said()}")
    return found


def _start(side: Side) -> None:
    side.start()
    side.wait()
    measures.warm_up(side)


def _running(
    ceiling: Side, side: Side, sizes: Sizes, found: Figures
) -> None:
    _start(side)
    found.numbers["idle"] = measures.idle(side, sizes.idle_seconds)
    _late(side, sizes, found, 0)
    near, limit, calls = measures.near(side, ceiling, sizes.seconds)
    found.note_rate("near", near.rate, limit)
    found.note("near", calls)
    _burst(side, sizes, found, 2 + 1.5 * sizes.burst / near.rate)
    # Last: what it sets sleeps as well.
    far, limit = measures.in_turn(
        side, ceiling, sizes.seconds, measures.FAR
    )
    found.note_rate("far", far.rate, limit)
    _say(f"  set/s: {near.rate:.0f} near, {far.rate:.0f} far")


def _late(side: Side, sizes: Sizes, found: Figures, asleep: int) -> None:
    for rate in sizes.rates:
        calls, cpu = measures.lateness(side, rate, sizes.rate_seconds)
        _say(
            f"  {rate}/s, {asleep:,} asleep: late by {calls.late(0.5):.1f},"
            f" {calls.late(0.99):.1f}, {calls.late(1):.1f} ms"
        )
        found.note(f"{rate}/s, {asleep} asleep", calls)
        if not asleep:
            found.note_cpu(f"{rate}/s", cpu)


def _burst(
    side: Side, sizes: Sizes, found: Figures, lead: float
) -> None:
    limits = [bare.rate(side.receiver, sizes.burst)]
    burst = measures.burst(side, sizes.burst, min(lead, _LONGEST_LEAD))
    limits.append(bare.rate(side.receiver, sizes.burst))
    _say(f"  burst: {burst.rate:.0f} calls/s")
    found.note("burst", burst.calls)
    found.note_rate("burst", burst.rate, statistics.mean(limits))
    found.numbers["burst last"] = burst.seconds
    found.note_cpu("burst", burst.cpu_ms)


def _sleeping(side: Side, sizes: Sizes, found: Figures) -> None:
    """Start anew: what a burst leaves to be freed would blur memory."""
    if not (steps := asleep_steps(side.name, sizes)):
        return
    _start(side)
    asleep, held = 0, measures.held(side)
    for count in steps:
        side.seed(count - asleep, measures.FAR, side.receiver.url)
        asleep = count
        each = (measures.held(side) - held) / count
        found.numbers[f"{count} asleep memory"] = each
        _say(f"  {count:,} asleep: {each:.0f} bytes each outside Postgres")
        _late(side, sizes, found, count)


def asleep_steps(name: str, sizes: Sizes) -> tuple[int, ...]:
    """Return the numbers of sleeping timers that a side is measured with."""
    return sizes.asleep if name == SERVICE else sizes.rivals_asleep


def _recovery(side: Side, sizes: Sizes, found: Figures) -> None:
    recovery = measures.recovery(side, sizes.overdue, sizes.recovery_seconds)
    _say(
        f"  recovery: first call after {recovery.first:.1f} s, last after"
        f" {recovery.last:.1f} s; meanwhile late by"
        f" {recovery.meanwhile.late(0.99):.0f} ms (p99)"
    )
    found.numbers["recovery first"] = recovery.first
    found.numbers["recovery last"] = recovery.last
    found.note("meanwhile", recovery.meanwhile)
    found.note("overdue", recovery.overdue)


def _say(text: str) -> None:
    clock = time.strftime("%H:%M:%S")
    print(f"{clock} {text}", file=sys.stderr, flush=True)

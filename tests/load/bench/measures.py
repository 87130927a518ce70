"""What is measured of each side, one function a figure.

Every call that a function waits for must come once: what came twice, too
early or not at all is counted with the figure.
"""

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from tests.load.bench import usage
from tests.load.bench.generator import Driven, drive, request
from tests.load.bench.receiver import Call, Receiver
from tests.load.bench.sides import Side

#: Far timers are due in a day.
FAR = 86_400
#: Seconds without a call after which no more are waited for. Those that
#: poll do so every 5 s.
_SILENCE = 20.0
#: So often a side and the ceiling take turns.
_TURNS = 5
#: Memory has settled when it changes by less than so many bytes in 10 s.
_SETTLED = 3_000_000


def quantile(values: list[float], share: float) -> float:
    """Return a quantile of values that are in order; NaN if there are none."""
    if not values:
        return math.nan
    return values[max(math.ceil(share * len(values)) - 1, 0)]


@dataclass
class Calls:
    """The calls of a set of timers."""

    late_ms: list[float] = field(default_factory=list)
    first: float = math.nan     # seconds since the epoch
    last: float = math.nan
    missing: int = 0
    twice: int = 0
    early: int = 0

    def late(self, share: float) -> float:
        """Return the quantile of lateness, in ms; 1 is the most."""
        return quantile(self.late_ms, share)


def counted(timers: Collection[str] | int, calls: list[Call]) -> Calls:
    """Compare the calls that came with those that were to come.

    Of timers that were seeded only the number is known.
    """
    if not isinstance(timers, int):
        calls = [call for call in calls if call.timer in timers]
    counts = Counter(call.timer for call in calls)
    expected = timers if isinstance(timers, int) else len(timers)
    arrived = [call.arrived for call in calls]
    return Calls(
        sorted(1000 * call.late for call in calls),
        min(arrived, default=math.nan),
        max(arrived, default=math.nan),
        missing=expected - len(counts),
        twice=sum(count > 1 for count in counts.values()),
        early=sum(call.late < 0 for call in calls),
    )


def wait_for(
    receiver: Receiver, count: int, *, within: float, quiet: float = 0.0
) -> None:
    """Wait until so many calls came; give up after silence, or `within`.

    None need come in the first `quiet` seconds.
    """
    deadline = time.monotonic() + within
    silent, before = time.monotonic() + quiet, 0
    while (now := receiver.count()) < count:
        if now != before:
            silent, before = time.monotonic(), now
        if time.monotonic() > min(silent + _SILENCE, deadline):
            break
        time.sleep(0.05)
    time.sleep(0.5)     # for calls that come twice


def for_seconds(seconds: float, delay: int, url: str) -> Iterator[bytes]:
    """Yield requests with the same delay until the time is over."""
    until = time.monotonic() + seconds
    data = request(delay, url)
    while time.monotonic() < until:
        yield data


def due_together(count: int, due: float, url: str) -> Iterator[bytes]:
    """Yield requests of which all are due in the second after `due`."""
    for _ in range(count):
        yield request(max(1, math.ceil(due - time.time())), url)


def warm_up(side: Side) -> None:
    """Use every way through a side, till calls arrive."""
    data = request(1, side.receiver.url)
    driven = drive(side.port, itertools.repeat(data, 400))
    wait_for(side.receiver, 400, within=60)
    calls = counted(driven.timers, side.receiver.take())
    assert not calls.missing, f"{calls.missing} of 400 were not called"


def idle(side: Side, seconds: float) -> float:
    """Return what the side costs at rest, in percent of one core."""
    before = usage.cpu_of(side.parts())
    time.sleep(seconds)
    return 100 * sum(usage.used(before, side.parts()).values()) / seconds


def far(side: Side, seconds: float) -> Driven:
    """Set timers for tomorrow as fast as the side takes them."""
    return drive(side.port, for_seconds(seconds, FAR, side.receiver.url))


def in_turn(
    side: Side, ceiling: Side, seconds: float, delay: int
) -> tuple[Driven, float]:
    """Set timers as fast as the side takes them, for so many seconds.

    Before each part of them the ceiling has as much time: a machine that
    is busy elsewhere makes both slow. Also returns the ceiling's rate.
    """
    ours, limit = Driven(), Driven()
    for _ in range(_TURNS):
        for driven, at in (limit, ceiling), (ours, side):
            each = for_seconds(seconds / _TURNS, delay, side.receiver.url)
            driven.add(drive(at.port, each))
    return ours, limit.rate


def near(
    side: Side, ceiling: Side, seconds: float
) -> tuple[Driven, float, Calls]:
    """Set near timers like `in_turn`, and await their calls.

    The first of them is due a little after the last one is set.
    """
    side.receiver.forget()
    delay = math.ceil(2 * seconds) + 3
    driven, limit = in_turn(side, ceiling, seconds, delay)
    count = len(driven.timers)
    wait_for(side.receiver, count, within=300, quiet=delay - seconds)
    return driven, limit, counted(driven.timers, side.receiver.take())


def lateness(
    side: Side, rate: float, seconds: float
) -> tuple[Calls, dict[str, float]]:
    """Set timers at a rate; return how late calls were, and CPU in ms.

    All of them are due while others are being set, 2 s later.
    """
    side.receiver.forget()
    before = usage.cpu_of(side.parts())
    data = request(2, side.receiver.url)
    count = int(rate * seconds)
    driven = drive(side.port, itertools.repeat(data, count), rate=rate)
    wait_for(side.receiver, count, within=4 * seconds + 60)
    spent = usage.used(before, side.parts())
    calls = counted(driven.timers, side.receiver.take())
    return calls, {part: 1000 * s / count for part, s in spent.items()}


@dataclass
class Burst:
    """Timers due in one second, and what each cost from create to call."""

    calls: Calls
    seconds: float              # from the first one due to the last call
    cpu_ms: dict[str, float]    # of each part, a timer

    @property
    def rate(self) -> float:
        """Calls a second, the lost ones left out."""
        return len(self.calls.late_ms) / self.seconds


def burst(side: Side, count: int, lead: float) -> Burst:
    """Set timers that are due in one second, which begins in `lead` s."""
    side.receiver.forget()
    before = usage.cpu_of(side.parts())
    due = time.time() + lead
    driven = drive(
        side.port, due_together(count, due, side.receiver.url)
    )
    wait_for(
        side.receiver, count, within=lead + 300,
        quiet=max(0.0, due - time.time()),
    )
    spent = usage.used(before, side.parts())
    calls = counted(driven.timers, side.receiver.take())
    return Burst(
        calls, calls.last - due,
        {part: 1000 * s / count for part, s in spent.items()},
    )


def held(side: Side) -> int:
    """Return the bytes that everything but Postgres holds, once settled.

    RabbitMQ frees what messages took on their way only bit by bit.
    """
    latest: deque[int] = deque(maxlen=3)
    for _ in range(30):
        latest.append(_held(side))
        if len(latest) == 3 and max(latest) - min(latest) < _SETTLED:
            break
        side.ground.rabbitmq.control("force_gc")
        time.sleep(5)
    return latest[-1]


def _held(side: Side) -> int:
    return sum(
        usage.memory(pids) for part, pids in side.parts().items()
        if part != "postgres"
    )


@dataclass
class Recovery:
    """Overdue timers, after a start of everything but the servers."""

    first: float        # seconds from the start to the first call
    last: float         # … and to the last
    overdue: Calls
    meanwhile: Calls


def recovery(side: Side, count: int, within: float) -> Recovery:
    """Start a side that has overdue timers; set others meanwhile."""
    side.seed(count, -60, side.receiver.url)
    side.receiver.forget()
    began = time.time()
    side.start()
    side.wait(within)
    driven = drive(side.port, _until_called(side, count, within), rate=50)
    total = count + len(driven.timers)
    wait_for(side.receiver, total, within=within)
    calls = side.receiver.take()
    others = [call for call in calls if call.timer not in driven.timers]
    overdue = counted(count, others)
    return Recovery(
        overdue.first - began,
        overdue.last - began,
        overdue,
        counted(driven.timers, calls),
    )


def _until_called(side: Side, count: int, within: float) -> Iterator[bytes]:
    """Yield requests, due in 2 s, while overdue timers are being called."""
    data = request(2, side.receiver.url)
    until = time.monotonic() + within
    while side.receiver.count() < count and time.monotonic() < until:
        yield data

"""A simulation of the pipeline, from create to record, event by event.

What takes processor time is work of a process: one at a time, in turn with
the other processes of its machine, a slice each. What it stands for:

    web process ─ group commit ─ RabbitMQ's rungs, then its queue
    ─ worker process ─ group commit (claim) ─ until due ─ call
    ─ group commit (record)

Times are in milliseconds. It knows nothing of what else a system does
(checkpoints, other programs, a network that stalls), so that its lateness
is what queueing alone makes of it: a lower bound.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: A process that is not done by then has the others go first, ms.
_SLICE = 3.0
#: `store.LEAD`; messages come between that and half of it too early.
_LEAD = 20.0
#: The most that `GroupCommit` writes at once.
_MOST = 500

Then = Callable[[], None]


@dataclass(frozen=True)
class Costs:
    """Processor time of a timer in each part, and what waits for a disk.

    Those of a write to Postgres are `flush` for a group and `row` for each
    of its rows; a timer is written three times: create, claim, record.
    """

    web: float
    worker: float       # half of it before the call, half after
    rabbitmq: float     # a third when published, two thirds from then on
    queue: float        # of these, what the one queue's own process takes
    flush: float
    row: float
    fsync: float        # a wait, and no processor time
    network: float = 0.0    # a round trip, between machines


@dataclass(frozen=True)
class Layout:
    """Processes and cores of each part; one `machine` shares its cores."""

    web: int
    worker: int
    web_cores: float
    worker_cores: float
    postgres_cores: int
    rabbitmq_cores: int
    shared_cores: int = 0   # all parts on one machine of so many


@dataclass
class Outcome:
    """How late calls were, and how busy each part's cores have been."""

    late: list[float]
    seconds: float
    busy: dict[str, float] = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        """Return a quantile of lateness, in ms."""
        place = math.ceil(share * len(self.late)) - 1
        return self.late[max(place, 0)]

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self.late) / self.seconds


class Clock:
    """The events that are to come, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._order = itertools.count()

    def at(self, when: float, then: Then) -> None:
        """Have something happen at a time, or now if that has passed."""
        event = max(when, self.now), next(self._order), then
        heapq.heappush(self._events, event)

    def run(self, until: float = math.inf) -> None:
        """Let everything happen that does until then."""
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()


class Machine:
    """Cores that ready processes take in turn."""

    def __init__(self, clock: Clock, cores: int) -> None:
        self.clock = clock
        self.cores = cores
        self.used = 0.0
        self._free = cores
        self._ready: deque[Process] = deque()

    def ready(self, process: "Process") -> None:
        """Let a process have its turn."""
        self._ready.append(process)
        self._start()

    def _start(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            process = self._ready.popleft()
            length = min(process.left, _SLICE)
            self.used += length
            self.clock.at(
                self.clock.now + length,
                lambda process=process, length=length: (  # type: ignore[misc]
                    self._end(process, length)
                ),
            )

    def _end(self, process: "Process", length: float) -> None:
        self._free += 1
        process.spent(length)
        self._start()


class Process:
    """Does one thing at a time, in the order in which it was asked."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._work: deque[tuple[float, Then]] = deque()
        self.left = 0.0
        self._then: Then | None = None

    def do(self, length: float, then: Then) -> None:
        """Work for so long, then go on with something."""
        self._work.append((length, then))
        if self._then is None:
            self._next()

    def _next(self) -> None:
        if self._work:
            self.left, self._then = self._work.popleft()
            self._machine.ready(self)

    def spent(self, length: float) -> None:
        """Take a slice off; go on when nothing is left."""
        self.left -= length
        if self.left > 1e-9:
            self._machine.ready(self)
            return
        then, self._then = self._then, None
        self._next()
        assert then is not None
        then()


class Group:
    """`GroupCommit` of one process and kind of write, with its backend."""

    def __init__(self, clock: Clock, postgres: Machine, costs: Costs) -> None:
        self._clock = clock
        self._backend = Process(postgres)
        self._costs = costs
        self._waiting: deque[Then] = deque()
        self._flushing = False

    def write(self, then: Then) -> None:
        """Store one row, with those that wait; go on once it is durable."""
        self._waiting.append(then)
        if not self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._flushing = True
        count = min(len(self._waiting), _MOST)
        group = [self._waiting.popleft() for _ in range(count)]
        self._backend.do(
            self._costs.flush + count * self._costs.row,
            lambda: self._clock.at(
                self._clock.now + self._costs.fsync + self._costs.network,
                lambda: self._done(group),
            ),
        )

    def _done(self, group: list[Then]) -> None:
        self._flushing = bool(self._waiting)
        if self._waiting:
            self._flush()
        for then in group:
            then()


class Pipeline:
    """All parts of the service, and what has been called."""

    def __init__(
        self, layout: Layout, costs: Costs, chance: random.Random
    ) -> None:
        self.clock = clock = Clock()
        self._costs = costs
        self._chance = chance
        shared = Machine(clock, layout.shared_cores)

        def machine(cores: float) -> Machine:
            return shared if shared.cores else Machine(clock, int(cores))

        self.machines = {
            "web": machine(layout.web_cores),
            "worker": machine(layout.worker_cores),
            "postgres": machine(layout.postgres_cores),
            "rabbitmq": machine(layout.rabbitmq_cores),
        }
        parts = self.machines
        self._web = [
            (Process(parts["web"]), Group(clock, parts["postgres"], costs))
            for _ in range(layout.web)
        ]
        self._workers = [
            (
                Process(parts["worker"]),
                Group(clock, parts["postgres"], costs),
                Group(clock, parts["postgres"], costs),
            )
            for _ in range(layout.worker)
        ]
        # As many rungs are at work at the same time.
        self._rungs = [
            Process(parts["rabbitmq"])
            for _ in range(2 * parts["rabbitmq"].cores)
        ]
        self._queue = Process(parts["rabbitmq"])
        self.late: list[float] = []
        self.set: list[float] = []
        self.recorded = 0

    def create(self, delay: float | None, due: float | None = None) -> None:
        """Set a timer now, `delay` from its storing or due at a time."""
        process, group = self._chance.choice(self._web)

        def stored() -> None:
            self.set.append(self.clock.now)
            when = due if due is not None else self.clock.now + (delay or 0)
            self._publish(when)

        process.do(self._varied(self._costs.web), lambda: group.write(stored))

    def _publish(self, due: float) -> None:
        rung = self._chance.choice(self._rungs)
        early = self._chance.uniform(_LEAD / 2, _LEAD)
        rest = self._costs.rabbitmq - self._costs.queue

        def climbed_down() -> None:
            self._queue.do(self._costs.queue, lambda: self._deliver(due))

        def expired() -> None:
            self._chance.choice(self._rungs).do(rest * 2 / 3, climbed_down)

        rung.do(rest / 3, lambda: self.clock.at(due - early, expired))

    def _deliver(self, due: float) -> None:
        process, claims, records = self._chance.choice(self._workers)
        half = self._costs.worker / 2

        def recorded() -> None:
            self.recorded += 1

        def called() -> None:
            self.late.append(self.clock.now - due)
            records.write(recorded)

        def claimed() -> None:
            self.clock.at(
                due, lambda: process.do(self._varied(half), called)
            )

        process.do(self._varied(half), lambda: claims.write(claimed))

    def _varied(self, mean: float) -> float:
        """Return a length of work: half of it is always the same."""
        return mean / 2 + self._chance.expovariate(2 / mean)

    def outcome(self, seconds: float) -> Outcome:
        """Return what came of it, in so many seconds of its time."""
        busy = {
            name: machine.used / (machine.cores * self.clock.now)
            for name, machine in self.machines.items()
        }
        return Outcome(sorted(self.late), seconds, busy)


def steady(
    layout: Layout, costs: Costs, rate: float, seconds: float, seed: int = 1
) -> Outcome:
    """Set timers at random moments, at a rate, each due 2 s later.

    What comes due in the last second is not looked at: the rest of the
    system is at its steady state while the others are called.
    """
    chance = random.Random(seed)
    pipeline = Pipeline(layout, costs, chance)
    clock = pipeline.clock
    end = 1000 * seconds

    def arrive() -> None:
        pipeline.create(2000.0)
        when = clock.now + chance.expovariate(rate / 1000)
        if when < end:
            clock.at(when, arrive)

    clock.at(0.0, arrive)
    clock.run(end + 2000)
    return pipeline.outcome(seconds)


def burst(layout: Layout, costs: Costs, count: int, seed: int = 1) -> Outcome:
    """Set timers in advance that are due in one second; call them all."""
    chance = random.Random(seed)
    pipeline = Pipeline(layout, costs, chance)
    begin = 1000.0 + 4 * count * (costs.web + costs.rabbitmq)
    for number in range(count):
        pipeline.create(None, begin + 1000.0 * number / count)
    pipeline.clock.run()
    return pipeline.outcome((pipeline.clock.now - begin) / 1000)


def creates(
    layout: Layout, costs: Costs, count: int, callers: int, seed: int = 1
) -> float:
    """Return creates a second, with so many callers that wait for answers."""
    pipeline = Pipeline(layout, costs, random.Random(seed))
    clock, left = pipeline.clock, count - callers

    class Answers(list[Any]):
        def append(self, when: Any) -> None:
            nonlocal left
            super().append(when)
            if left > 0:
                left -= 1
                pipeline.create(86_400_000.0)

    pipeline.set = Answers()
    for _ in range(callers):
        pipeline.create(86_400_000.0)
    clock.run(86_000_000.0)
    return 1000 * count / pipeline.set[-1]

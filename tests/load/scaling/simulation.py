"""A simulation of the pipeline, from create to record, event by event.

What takes processor time is work of a process: one at a time, in turn with
the other processes of its machine, a slice each. What it stands for:

    web process ─ group commit ─ RabbitMQ's rungs, then its queue
    ─ worker process ─ group commit (claim) ─ until due ─ call
    ─ group commit (record)

Times are in milliseconds. It knows nothing of what else a system does
(checkpoints, interpreters that hold their lock, a network that stalls). So
its rates can be quoted, and its lateness can't: measured p99 was 25 times as
much.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from tests.load.scaling.engine import Clock, Machine, Process, Then, Threads

#: `claiming.LEAD`; messages come between that and half of it too early.
_LEAD = 20.0
#: The most that `GroupCommit` writes at once.
_MOST = 500

#: As `deploy.commands` and `make stack` have them.
_WEB_THREADS, _WORKER_THREADS = 64, 64
#: So often other programs begin something, ms.
_OTHERS_TURN = 10.0
#: How long the timers of a steady stream sleep, ms.
_SOON = 200.0


@dataclass(frozen=True)
class Costs:
    """Processor time of a timer in each part, and what waits for a disk.

    Those of a write to Postgres are `flush` for a group and `row` for each
    of its rows; a timer is written three times: create, claim, record.
    """

    web: float
    worker: float       # half to claim, a quarter to call, one to record
    rabbitmq: float     # a third when published, two thirds from then on
    queue: float        # of these, what the one queue's own process takes
    flush: float
    row: float
    fsync: float        # a wait, and no processor time
    network: float = 0.0    # a round trip, between machines
    bench: float = 0.0      # what sets and receives it, on the same machine


@dataclass(frozen=True)
class Layout:
    """Processes of web and worker, one for each of their cores, and cores.

    With `shared`, all parts are on one machine of so many cores, of which
    other programs use `others`.
    """

    web: int
    worker: int
    postgres: int = 1
    rabbitmq: int = 1
    shared: int = 0
    others: float = 0.0


@dataclass
class Outcome:
    """How long answers took, how late calls were, how busy cores were.

    Postgres is busy long before it is full: as long as it has time for
    small groups, groups are small.
    """

    set: int
    seconds: float
    answers: list[float] = field(default_factory=list)  # ms, in order
    late: list[float] = field(default_factory=list)     # ms, in order
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self.late) / self.seconds

    @property
    def keeps_up(self) -> bool:
        """Whether all but a hundredth was stored and called by the end."""
        return len(self.late) >= 0.99 * self.set


class Group:
    """A group commit of one process and kind of write, with its backend.

    Its caller goes on, and the next group begins, when the process has come
    to it: the more it has to do, the larger are its groups.
    """

    def __init__(
        self, clock: Clock, owner: Process, postgres: Machine, costs: Costs
    ) -> None:
        self._clock = clock
        self._owner = owner
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
                lambda: self._owner.do(0.0, lambda: self._done(group)),
            ),
        )

    def _done(self, group: list[Then]) -> None:
        self._flushing = bool(self._waiting)
        if self._waiting:
            self._flush()
        for then in group:
            then()


class Pipeline:
    """All parts of the service, and what has become of its timers."""

    def __init__(self, layout: Layout, costs: Costs, seed: int) -> None:
        self.clock = clock = Clock()
        self.chance = random.Random(seed)
        self.set = 0
        self.ended = 0
        self.until_ended = 0    # the run is over with so many records, if any
        self.answers: list[float] = []
        self.late: list[float] = []
        self._costs = costs
        cores = {
            "web": layout.web, "worker": layout.worker,
            "postgres": layout.postgres, "rabbitmq": layout.rabbitmq,
        }
        shared = Machine(clock, layout.shared)
        self._machines = parts = {
            part: shared if layout.shared else Machine(clock, count)
            for part, count in cores.items()
        }
        self._web = [
            (Threads(_WEB_THREADS), process, self._group(process))
            for process in self._processes("web", layout.web)
        ]
        self._workers = [
            (
                Threads(_WORKER_THREADS), process,
                self._group(process), self._group(process),
            )
            for process in self._processes("worker", layout.worker)
        ]
        # Sixty rungs: as many as there are cores are at work at a time.
        self._rungs = [Process(parts["rabbitmq"]) for _ in range(60)]
        self._queue = Process(parts["rabbitmq"])
        self._bench = Process(parts["web"])
        for _ in range(layout.shared):
            each = layout.others / layout.shared
            self._run_other(Process(shared), each)

    def _run_other(self, process: Process, share: float) -> None:
        """Keep a share of a core busy."""
        again = self.clock.now + _OTHERS_TURN

        process.do(
            share * _OTHERS_TURN,
            lambda: self.clock.at(
                again, lambda: self._run_other(process, share)
            ),
        )

    def _processes(self, part: str, count: int) -> list[Process]:
        return [Process(self._machines[part]) for _ in range(count)]

    def _group(self, owner: Process) -> Group:
        return Group(
            self.clock, owner, self._machines["postgres"], self._costs
        )

    def _varied(self, mean: float) -> float:
        """Return a length of work: half of it is always the same."""
        return mean / 2 + self.chance.expovariate(2 / mean)

    def create(
        self,
        *,
        due: float | None = None,
        delay: float = 0.0,
        then: Then = lambda: None,
    ) -> None:
        """Set a timer, `delay` from when it is stored if it has no time."""
        threads, process, group = self.chance.choice(self._web)
        began = self.clock.now
        self.set += 1

        def stored() -> None:
            threads.give_back()
            self.answers.append(self.clock.now - began)
            self._publish(self.clock.now + delay if due is None else due)
            then()

        self._bench.do(self._costs.bench / 2, lambda: None)
        work = self._varied(self._costs.web)
        threads.take(lambda: process.do(work, lambda: group.write(stored)))

    def _publish(self, due: float) -> None:
        early = self.chance.uniform(_LEAD / 2, _LEAD)
        each = (self._costs.rabbitmq - self._costs.queue) / 3

        def climbed_down() -> None:
            self._queue.do(self._costs.queue, lambda: self._deliver(due))

        def expired() -> None:
            self.chance.choice(self._rungs).do(2 * each, climbed_down)

        self.chance.choice(self._rungs).do(
            each, lambda: self.clock.at(due - early, expired)
        )

    def _deliver(self, due: float) -> None:
        threads, process, claims, records = self.chance.choice(self._workers)
        half = self._costs.worker / 2

        def called() -> None:
            self.late.append(self.clock.now - due)
            self._bench.do(self._costs.bench / 2, lambda: None)
            process.do(self._varied(half / 2), answered)

        def answered() -> None:
            threads.give_back()
            records.write(ended)

        def ended() -> None:
            self.ended += 1
            self.clock.over = self.ended == self.until_ended

        def is_due() -> None:
            process.do(self._varied(half / 2), called)

        def claim() -> None:
            claims.write(lambda: self.clock.at(due, is_due))

        work = self._varied(half)
        threads.take(lambda: process.do(work, claim))

    def outcome(self, seconds: float) -> Outcome:
        """Return what came of it, in so many seconds of its time."""
        busy = {
            part: machine.used / (machine.cores * self.clock.now)
            for part, machine in self._machines.items()
        }
        busy["queue"] = self._queue.used / self.clock.now
        return Outcome(
            self.set, seconds, sorted(self.answers), sorted(self.late), busy
        )


def steady(
    layout: Layout, costs: Costs, rate: float, seconds: float, seed: int = 1
) -> Outcome:
    """Set timers at random moments, at a rate, each due soon after."""
    pipeline = Pipeline(layout, costs, seed)
    clock, chance = pipeline.clock, pipeline.chance
    end = 1000 * seconds

    def arrive() -> None:
        if clock.now < end:
            pipeline.create(delay=_SOON)
            clock.at(clock.now + chance.expovariate(rate / 1000), arrive)

    arrive()
    clock.run(until=end + _SOON + _LEAD)
    return pipeline.outcome(seconds)


def burst(layout: Layout, costs: Costs, count: int, seed: int = 1) -> Outcome:
    """Call timers that were set long before, and are due in one second."""
    pipeline = Pipeline(layout, costs, seed)
    pipeline.until_ended = count
    begin = 10.0 * count    # more than it takes to set them
    for number in range(count):
        pipeline.create(due=begin + 1000.0 * number / count)
    pipeline.clock.run()
    return pipeline.outcome((pipeline.clock.now - begin) / 1000)


def creates(
    layout: Layout, costs: Costs, count: int, callers: int = 128, seed: int = 1
) -> float:
    """Return creates a second, of callers that wait for their answers."""
    pipeline = Pipeline(layout, costs, seed)

    def again() -> None:
        if pipeline.set < count:
            pipeline.create(delay=86_400_000.0, then=again)
        elif len(pipeline.answers) == count:
            pipeline.clock.over = True

    for _ in range(callers):
        pipeline.create(delay=86_400_000.0, then=again)
    pipeline.clock.run()
    return 1000 * count / pipeline.clock.now

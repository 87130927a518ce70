"""The adversarial scheduler: it plays a list of moves, good and bad.

Hypothesis makes the lists up, and shortens one that breaks a promise. A
move that has nothing to act upon gives way to one that has.
"""

from datetime import timedelta
from typing import Any

import uuid_utils.compat
from hypothesis import strategies as st

from apps.timers.scheduling import dispatcher
from apps.timers.storage.records import Definition, NewTimer
from apps.webhooks.retry import RetryPolicy
from tests.model.asking import Asking, pick
from tests.model.drain import drain
from tests.model.life import Broken, Violation
from tests.model.postgres import Postgres
from tests.model.receivers import DEFERRALS
from tests.model.worker import Worker
from tests.model.world import World
from tests.support.accounts import OWNER

#: A move's name and two numbers that say which, how much, how.
Move = tuple[str, int, int]
Games = st.SearchStrategy[list[Move]]
#: The names, and how often each is played.
_WEIGHTS = {
    "fail": 4, "defer": 2, "deliver": 7, "work": 9, "stumble": 5, "crash": 3,
    "write_group": 2, "arrive_late": 3, "take_marks": 3, "write_marks": 3,
    "advance": 3, "lapse": 4, "dispatch": 3, "create": 1, "cancel": 2,
    "move": 2, "fire_now": 1, "patch": 2, "post": 3, "put": 3, "replay": 2,
    "go_on": 5, "pass_day": 1, "hold": 1, "release": 2,
    "suspend": 1, "restart_postgres": 1, "cut_off": 1, "stall": 1,
    "wipe_rabbitmq": 1,
}
_NAMES = [name for name, count in _WEIGHTS.items() for _ in range(count)]
#: Seconds: within a lease, beyond the renewal's limit, beyond a lease, …
_DURATIONS = [0.3, 3.0, 9.0, 11.0, 21.0, 62.0]
_DELAYS = [0.0, 0.0, 0.0, 0.31, 9.0, 90.0]
#: Of the timers with these delays; the margin at the end counts.
_LATENESS = [None, timedelta(seconds=5), timedelta(seconds=40)] + [None] * 3
#: Whether the creator marks a timer as queued, and what it asks for.
_KINDS: list[tuple[bool, dict[str, Any]]] = [
    (False, {}),
    (False, {"at_least_once": True}),
    (True, {}),
    (True, {"at_least_once": True}),
    (False, {"retry": RetryPolicy(3, 1, 60, False)}),
    (False, {"at_least_once": True, "retry": RetryPolicy(3, 2, 3, True)}),
]
_URL = "http://127.0.0.1:9/"
#: How far a worker comes in one move; a whole call takes ten steps.
_STEPS = [1, 2, 3, 4, 6, 12]
#: For a timer that is due in so many seconds a bad receiver waits.
_PATIENT = 31
_TROUBLES = ["", "", "", "", "refused", "dies"]
_MOST_OPEN = 2


def moves(least: int, most: int) -> Games:
    """Return a strategy of lists of so many moves, after the first timer."""
    number = st.integers(0, 5)
    delay = st.sampled_from([0, 0, 0, 1, 2])
    first = st.tuples(st.just("create"), delay, number)
    move = st.tuples(st.sampled_from(_NAMES), number, number)
    rest = st.lists(move, min_size=least, max_size=most)
    return st.builds(lambda first, rest: [first, *rest], first, rest)


def limited(games: Games) -> Games:
    """Return a strategy of the games in which the account has a limit."""
    limits = st.tuples(st.just("limit"), st.just(0), st.integers(0, 2))
    return st.builds(lambda limit, game: [limit, *game], limits, games)


def play(postgres: Postgres, most_reopenings: int, game: list[Move]) -> None:
    """Play the moves, then have all be well; raise Violation."""
    world = World(postgres, most_reopenings)
    try:
        scheduler = Scheduler(world)
        for name, which, how in game:
            getattr(scheduler, name)(which, how)
            world.observe()
        drain(world)
    except Broken as broken:
        raise Violation(str(broken)) from broken
    finally:
        world.close()


class Scheduler(Asking):
    """One method for each move."""

    def _busy(self) -> list[Worker]:
        return [w for w in self._world.workers if w.request is not None]

    def create(self, which: int, how: int) -> None:
        """Store a timer, unless there are enough."""
        if self._world.checker.limit is not None:
            # This is done without a look at limits.
            self.post(which, how)
        elif len(self._unended()) < _MOST_OPEN:
            queued, kind = _KINDS[how]
            self._world.create(
                NewTimer(
                    uuid_utils.compat.uuid7(),
                    OWNER,
                    Definition(
                        _URL, max_lateness=_LATENESS[which], **kind
                    ),
                    timedelta(seconds=_DELAYS[which]),
                    queued,
                )
            )

    def deliver(self, which: int, how: int) -> None:
        """Deliver a message, real or repeated, early or late."""
        idle = [w for w in self._world.workers if w.request is None]
        if not idle:
            return self.work(which, how)
        if how and not self._unended():
            self.create(which, how)
        timers = self._world.timers if how == 0 else self._open()
        worker = pick(idle, how)
        self._world.deliver(worker, pick(timers, which), True)
        return self._go_on(worker, _STEPS[how] - 1, prompt=which > 2)

    def work(self, which: int, how: int) -> None:
        """Let a worker go on."""
        busy = self._busy()
        if not busy:
            return self.deliver(which, how)
        worker = pick(busy, which)
        return self._go_on(worker, _STEPS[how], prompt=which > 2)

    def _go_on(self, worker: Worker, steps: int, *, prompt: bool) -> None:
        """Let a worker do some steps, and write its marks at once or not."""
        for _ in range(steps):
            if worker.request is not None:
                self._world.step(worker)
                self._world.observe()
            if prompt and worker.marks:
                worker.flying += worker.marks.values()
                worker.marks.clear()
                self._world.write_marks(worker, well=True)

    def stumble(self, which: int, how: int) -> None:
        """Lose a write, its answer, a connection, the receiver's answer."""
        if busy := self._busy():
            self._world.step(pick(busy, which), how)

    def fail(self, which: int, how: int) -> None:
        """Have a receiver answer badly, or not at all, when it is time."""
        timer = pick(self._open(), which)
        wait = self._world.checker.lives[timer].not_before - self._world.now
        if 0 < wait <= _PATIENT:
            self._world.advance(wait)
        self.deliver(which, max(1, how))
        if busy := self._busy():
            worker = pick(busy, which)
            while worker.request not in (None, ("answer",)):
                self._go_on(worker, 1, prompt=which > 2)
            if worker.request:
                self._world.step(worker, how)
                self._go_on(worker, 2, prompt=False)

    def defer(self, which: int, how: int) -> None:
        """Have a destination take no call now."""
        self._world.receivers.deferral = pick(DEFERRALS, how)
        self.deliver(which, how)

    def write_group(self, which: int, how: int) -> None:
        """Have writes of several workers go together."""
        if groups := self._world.groups():
            self._world.execute(pick(groups, which))

    def arrive_late(self, which: int, how: int) -> None:
        """Have a write arrive that its client has given up."""
        if late := self._world.late:
            write = pick(late, which)
            late.remove(write)
            self._world.execute([write])

    def take_marks(self, which: int, how: int) -> None:
        """Have a writer of marks begin to write."""
        if writers := [w for w in self._world.workers if w.marks]:
            writer = pick(writers, which)
            writer.flying += writer.marks.values()
            writer.marks.clear()

    def write_marks(self, which: int, how: int) -> None:
        """Have it be done, or fail."""
        self.take_marks(which, how)
        if writers := [w for w in self._world.workers if w.flying]:
            self._world.write_marks(pick(writers, which), well=how > 0)

    def limit(self, which: int, how: int) -> None:
        """Have the operator set a limit, once."""
        if self._world.checker.limit is None:
            self._world.limit(1 + how % 3)

    def crash(self, which: int, how: int) -> None:
        """Kill a worker's process."""
        if busy := self._busy():
            self._world.crash(pick(busy, which))

    def advance(self, which: int, how: int) -> None:
        """Let time pass, while Postgres is away or nobody gets to run."""
        self._world.advance(_DURATIONS[which])

    def lapse(self, which: int, how: int) -> None:
        """Let leases end, and be found to have ended."""
        self._world.advance(_DURATIONS[max(4, which)] if how else 3.0)
        dispatcher.take_over()

    def dispatch(self, which: int, how: int) -> None:
        """Have a dispatcher make a pass."""
        self._world.rabbitmq.busy = bool(which & 1)
        self._world.dispatch(_TROUBLES[how])

    def hold(self, which: int, how: int) -> None:
        """Have the operator hold all calls."""
        self._world.hold(lasts=True)

    def release(self, which: int, how: int) -> None:
        """Have the operator let calls go on."""
        self._world.hold(lasts=False)

    def suspend(self, which: int, how: int) -> None:
        """Suspend the workers' machine."""
        if self._world.can_suspend():
            self._world.suspend(_DURATIONS[which])

    def restart_postgres(self, which: int, how: int) -> None:
        """Have Postgres be away for a while, then start."""
        self._world.restart_postgres(_DURATIONS[which])

    def cut_off(self, which: int, how: int) -> None:
        """Have nobody reach Postgres for a while."""
        self._world.cut_off(_DURATIONS[which])

    def stall(self, which: int, how: int) -> None:
        """Have Postgres answer nobody for a while, and fail nobody."""
        self._world.stall(_DURATIONS[max(2, which)])

    def wipe_rabbitmq(self, which: int, how: int) -> None:
        """Lose all messages."""
        self._world.rabbitmq.messages.clear()

"""What the simulation is made of: events, and processes that take turns.

Times are in milliseconds.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from functools import partial

#: A process that is not done by then has the others go first, ms.
_SLICE = 3.0

Then = Callable[[], None]


class Clock:
    """The events that are to come, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.over = False
        self._events: list[tuple[float, int, Then]] = []
        self._order = itertools.count()

    def at(self, when: float, then: Then) -> None:
        """Have something happen at a time, or now if that has passed."""
        event = max(when, self.now), next(self._order), then
        heapq.heappush(self._events, event)

    def run(self, until: float = math.inf) -> None:
        """Let everything happen that does until then, or until it is over."""
        while not self.over and self._events and self._events[0][0] <= until:
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
        """Let a process go on with its turn, or have it after the others."""
        if 0 < process.turn < _SLICE:
            self._ready.appendleft(process)
        else:
            process.turn = 0.0
            self._ready.append(process)
        self._start()

    def _start(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            process = self._ready.popleft()
            length = min(process.left, _SLICE - process.turn)
            self.used += length
            self.clock.at(
                self.clock.now + length, partial(self._end, process, length)
            )

    def _end(self, process: "Process", length: float) -> None:
        self._free += 1
        process.spent(length)
        self._start()


class Process:
    """Does one thing at a time, in the order in which it was asked."""

    def __init__(self, machine: Machine) -> None:
        self.used = 0.0
        self.turn = 0.0
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
        else:
            self.turn = 0.0

    def spent(self, length: float) -> None:
        """Take a slice off; go on when nothing is left."""
        self.left -= length
        self.used += length
        self.turn += length
        if self.left > 1e-9:
            self._machine.ready(self)
            return
        then, self._then = self._then, None
        self._next()
        assert then is not None
        then()


class Threads:
    """The threads of a process: what finds none free waits for one."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[Then] = deque()

    def take(self, then: Then) -> None:
        """Go on with something on a thread."""
        if self._free:
            self._free -= 1
            then()
        else:
            self._waiting.append(then)

    def give_back(self) -> None:
        """Let a thread go on with what waits."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._free += 1

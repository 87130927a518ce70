"""Which destination may be called now, so that none takes all slots.

A worker process has so many slots for calls. A destination may take one
more while it has few and many are free; what it may not take comes back
when there should be room. One that hangs is called by one probe at a time,
until one is answered.

The share is a dynamic threshold, as in switches whose ports have a memory
in common (Choudhury and Hahne, "Dynamic queue length thresholds
for shared-memory packet switches", 1998): it needs no
history, so it holds in the first instant too, and a destination that is
alone gets most slots. That it falls with the square of the free slots
keeps some free however many destinations want all that they can get.
"""

import math
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

Origin = tuple[str, int]
"""Host and port."""

HUNG_IN_A_ROW = 5
"""So many calls without an answer, and none with one since: it hangs."""

PATIENCE = 0.1
"""So long a call waits for a slot where calls are quick, in seconds: a burst
to a fast receiver is not worth a detour over Postgres."""

SHORTEST_WAIT, LONGEST_WAIT = 0.1, 60.0
"""Bounds of what a deferral asks for, in seconds."""

#: Factors of the threshold: of 64 slots, a destination alone gets 57, or 54
#: when others wait that were deferred; of 8 or fewer, all. One that has never
#: answered, or does not now, begins slowly, as TCP does, with 11.
_LIVELY, _AWAITED, _SILENT = 64, 32, 1 / 4
#: One slot in so many is not for a first call to a destination that has not
#: answered within so many seconds.
_RESERVED, _RECENT = 16, 60.0
#: Destinations without calls under way that are remembered.
_MOST_IDLE = 10_000
_SMOOTHING = 1 / 8


@dataclass(frozen=True, slots=True)
class Deferral:
    """A call that may not go out now.

    wait     seconds until it makes sense to ask again
    hanging  whether that is since the destination answers nothing
    reason   for whoever looks at the timer
    """

    wait: float
    hanging: bool
    reason: str


class Destinations:
    """Shares out a process's slots for calls; for any number of threads."""

    def __init__(
        self,
        slots: int,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        self._slots = self._free = slots
        self._clock = clock
        self._patience = patience
        self._change = threading.Condition(threading.Lock())
        self._calling: dict[Origin, _Destination] = {}
        self._idle: OrderedDict[Origin, _Destination] = OrderedDict()

    def enter(
        self, origin: Origin, *, returning: bool = False
    ) -> Deferral | None:
        """Take a slot for a call, which leave() must give back.

        None: the call may go out now. `returning` says that it has been
        deferred before: newcomers leave room to such. It takes PATIENCE at
        most, and that only where a slot should be free by then.
        """
        with self._change:
            began = self._clock()
            while True:
                now = self._clock()
                destination = self._find(origin)
                if self._has_room(destination, now, returning):
                    self._free -= 1
                    destination.starts.append(now)
                    self._calling[origin] = destination
                    return None
                if not destination.starts:
                    self._keep(destination)
                left = self._patience - (now - began)
                if left <= 0 or not destination.is_quick(now):
                    break
                self._change.wait(left)
            if destination.is_open:
                return destination.wait_for_probe(now)
            return destination.book(now, self._share(destination))

    def leave(self, origin: Origin, *, hung: bool | None) -> None:
        """Give back a slot; due after every enter() that returned None.

        hung  the call had no answer by its deadline, be it of connecting,
              TLS or the answer itself. Whatever else came of it shows that
              there is somebody; None if there was no call after all.
        """
        with self._change:
            destination = self._calling[origin]
            destination.leave(self._clock(), hung)
            self._free += 1
            if not destination.starts:
                self._keep(self._calling.pop(origin))
            self._change.notify_all()

    def _find(self, origin: Origin) -> "_Destination":
        return (
            self._calling.get(origin)
            or self._idle.pop(origin, None)
            or _Destination(origin)
        )

    def _has_room(
        self, destination: "_Destination", now: float, returning: bool
    ) -> bool:
        """Tell whether a destination may have one slot more."""
        count = len(destination.starts)
        if not self._free or (
            destination.is_open and (count or now < destination.probe_at)
        ):
            return False
        if not count and not destination.hung:
            # The last are for those that answer: however many others come,
            # each with but one call, they leave some.
            return (
                now - destination.answered_at <= _RECENT
                or self._free * _RESERVED > self._slots
            )
        squared = self._free**2
        if not destination.is_lively(now):
            return (count / _SILENT + 1) * self._slots <= squared
        waited_for = destination.booked_until > now and not returning
        factor = _AWAITED if waited_for else _LIVELY
        return (count + 1) * self._slots <= squared * factor

    def _share(self, destination: "_Destination") -> int:
        """Return about how many slots it will have if others keep theirs.

        That is the largest n with n * slots <= factor * free ** 2, free
        being what is left before the n-th. As long as none hung, one that
        is silent is taken for one that will answer.
        """
        unused = self._free + len(destination.starts) + 1
        half = self._slots / (_SILENT if destination.hung else _LIVELY) / 2
        share = unused + half - math.sqrt(half * (2 * unused + half))
        return max(1, int(share))

    def _keep(self, destination: "_Destination") -> None:
        """Remember one without calls under way, for as long as there's room.

        The others are forgotten in the order in which they were last asked
        for: one that hangs is asked for as long as timers wait for it.
        """
        self._idle[destination.origin] = destination
        if len(self._idle) > _MOST_IDLE:
            self._idle.popitem(last=False)


class _Destination:
    """What is known of one destination; times are the clock's."""

    __slots__ = (
        "answered_at",
        "booked_until",
        "duration",
        "hung",
        "opened_at",
        "origin",
        "probe_at",
        "starts",
    )

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        #: Of the calls under way. Who leaves counts as the first that came:
        #: the sum of the durations, and so their mean, is right all the same.
        self.starts: list[float] = []
        #: How long a call takes, a moving average; 0 before the first ended.
        self.duration = 0.0
        self.answered_at = float("-inf")
        #: How many calls in a row hung; enough of them: it is open.
        self.hung = 0
        self.opened_at = self.probe_at = float("-inf")
        #: When there is room for the next that is deferred.
        self.booked_until = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether nothing but a probe may be sent."""
        return self.hung >= HUNG_IN_A_ROW

    @property
    def name(self) -> str:
        """Host and port as in a URL."""
        host, port = self.origin
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def is_lively(self, now: float) -> bool:
        """Tell whether it has answered, and is not overdue to again."""
        if self.hung or self.answered_at == float("-inf"):
            return False
        if not self.starts:
            return True
        since = max(self.answered_at, self.starts[0])
        return now - since <= max(1.0, 2 * self.duration)

    def estimate(self, now: float) -> float:
        """Return how long a call takes, in seconds.

        The age of those under way shows that it may hang, long before the
        first of them has timed out.
        """
        if self.is_lively(now) or not self.starts:
            return self.duration
        age = now - sum(self.starts) / len(self.starts)
        return max(self.duration, age)

    def is_quick(self, now: float) -> bool:
        """Tell whether one of the calls under way should end soon."""
        return bool(self.starts) and self.estimate(now) <= PATIENCE

    def leave(self, now: float, hung: bool | None) -> None:
        """Note the end of a call."""
        start = self.starts.pop(0)
        if hung is None:
            return
        took = now - start
        if self.duration:
            self.duration += (took - self.duration) * _SMOOTHING
        else:
            self.duration = took
        if not hung:
            if self.is_open:  # what was learnt is no longer so
                self.duration, self.booked_until = took, now
            self.hung, self.answered_at = 0, now
        elif start > self.answered_at:
            self.hung += 1
            if self.hung == HUNG_IN_A_ROW:
                self.opened_at = now
            if self.is_open:
                self.probe_at = now + max(1.0, self.backoff(now))

    def backoff(self, now: float) -> float:
        """Return for how long it has hung, bounded: it about doubles."""
        return min(now - self.opened_at, LONGEST_WAIT / 2)

    def book(self, now: float, share: int) -> Deferral:
        """Return when there should be room, given so many slots.

        Some come a little early, lest slots stay empty.
        """
        pace = self.estimate(now) / share
        until = max(now, self.booked_until) + pace
        self.booked_until = min(until, now + LONGEST_WAIT)
        wait = (self.booked_until - now) * random.uniform(0.75, 1.0)
        return Deferral(
            max(wait, SHORTEST_WAIT),
            False,
            f"busy: {len(self.starts)} calls to {self.name} are under way,"
            " its share",
        )

    def wait_for_probe(self, now: float) -> Deferral:
        """Return when the next probe may have been answered.

        All are spread over as long again as it has hung, at least over the
        time that a probe takes.
        """
        longest = LONGEST_WAIT / 2
        probe = min(self.duration, longest)
        end = self.starts[0] + probe if self.starts else self.probe_at
        spread = max(self.backoff(now), probe) * random.random()
        return Deferral(
            max(end - now + spread, SHORTEST_WAIT),
            True,
            f"hanging: the last {self.hung} calls to {self.name}"
            " got no answer",
        )

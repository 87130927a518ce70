"""Which destination may be called now, so that none takes all slots.

A worker process has a number of slots for calls. A destination may take one
more while it has few and many are free. A call that gets no slot comes back
when there should be room. A destination that hangs is called by one probe at
a time, until one is answered.

The share is a dynamic threshold, as in switches whose ports share a memory
(Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
packet switches", 1998). It needs no history, so it holds from the first
instant. A destination that is alone gets most slots. The threshold falls
with the square of the free slots, which keeps some free however many
destinations want all that they can get.

Names cost nothing, so a share for each name is not enough. All destinations
that are slow, or have not answered yet, have half of the slots together.
Those of them at one address have one share of that half. Names that answer
quickly have shares of their own: a thousand names may be at one address.
"""

import math
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain, islice

from apps.webhooks.destination import (
    PATIENCE,
    SHORTEST_WAIT,
    Deferral,
    Destination,
    Origin,
)

LONGEST_NEW = 10.0
"""The longest wait for a host that was never called, in seconds."""

#: Factors of the threshold. Of 64 slots, a destination alone gets 57, or 54
#: while deferred calls wait. Of 8 or fewer slots, it gets all. A slow one gets
#: 30. One that has never answered, or does not now, begins slowly, as TCP
#: does, with 9.
_LIVELY, _AWAITED, _SILENT = 64, 32, 1 / 4
#: A sixteenth of the slots is kept from destinations that have no call under
#: way and have not answered in the last 60 s.
_RESERVED, _RECENT = 16, 60.0
#: A tenth of the slots is kept for destinations that are known to be fast.
_FOR_FAST = 10
#: Beside the slow ones' half, an eighth of the slots is for first calls.
_FOR_NEW = 8
#: How many destinations without calls under way are remembered.
_MOST_IDLE = 10_000
#: How many of those that hang are told, at most.
_MOST_SHOWN = 100


class Destinations:
    """Shares out a process's slots for calls; for any number of threads."""

    def __init__(
        self,
        slots: int,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        self._slots = self._free = slots
        self._half = (slots + 1) // 2
        self._clock = clock
        self._patience = patience
        #: How many of the destinations hang.
        self._open = 0
        self._change = threading.Condition(threading.Lock())
        self._calling: dict[Origin, Destination] = {}
        self._idle: OrderedDict[Origin, Destination] = OrderedDict()
        #: The queue of destinations about whose calls nothing is known.
        self._strangers = Destination(("", 0))

    def enter(
        self, origin: Origin, *, returning: bool = False
    ) -> Deferral | None:
        """Take a slot for a call, which leave() must give back.

        Returns None if the call may go out now. `returning` says that it was
        deferred before: newcomers leave room for such calls. This waits for
        PATIENCE at most, and only where a slot should be free by then.
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
                if left <= 0 or not destination.ends_soon(now):
                    break
                self._change.wait(left)
            return self._defer(destination, now)

    def locate(
        self, origin: Origin, address: str, *, returning: bool = False
    ) -> Deferral | None:
        """Note the address of a call that has a slot and is not connected.

        Returns None if it may go on. Otherwise the slow names at this address
        have all that they may have, and the call must leave(). The address
        also counts for the name's next calls.
        """
        with self._change:
            now = self._clock()
            destination = self._calling[origin]
            destination.address = address
            if not destination.is_slow(now):
                return None
            start = destination.starts.pop()
            self._free += 1
            deferral = None
            if not self._has_room(destination, now, returning):
                deferral = self._defer(destination, now)
            destination.starts.append(start)
            self._free -= 1
            return deferral

    def leave(self, origin: Origin, *, hung: bool | None) -> None:
        """Give back a slot; due after every enter() that returned None.

        hung  whether the call had no answer by its deadline: to connecting,
              to TLS or to the request. Any other outcome shows that somebody
              is there. None if there was no call after all.
        """
        with self._change:
            destination = self._calling[origin]
            was_open = destination.is_open
            destination.leave(self._clock(), hung)
            self._open += destination.is_open - was_open
            self._free += 1
            if not destination.starts:
                self._keep(self._calling.pop(origin))
            self._change.notify_all()

    def count_open(self) -> int:
        """Return how many of the destinations that are remembered hang."""
        return self._open

    def busy(self) -> int:
        """Return how many slots are taken."""
        return self._slots - self._free

    def hanging(self) -> list[tuple[str, int, float]]:
        """Return which hang: host, port, and for how many seconds.

        Of many, those that are called, or that were asked for last.
        """
        if not self._open:
            return []
        with self._change:
            now = self._clock()
            known = chain(
                self._calling.values(), reversed(self._idle.values())
            )
            found = islice(
                (each for each in known if each.is_open), _MOST_SHOWN
            )
            return [(*each.origin, now - each.opened_at) for each in found]

    def _find(self, origin: Origin) -> Destination:
        return (
            self._calling.get(origin)
            or self._idle.pop(origin, None)
            or Destination(origin)
        )

    def _has_room(
        self, destination: Destination, now: float, returning: bool
    ) -> bool:
        """Tell whether a destination may have one slot more."""
        if not self._free or (
            destination.is_open
            and (destination.starts or now < destination.probe_at)
        ):
            return False
        count, free = self._competition(destination, now)
        if not count and destination.is_new:
            beside = self._slots / _FOR_NEW * (1 if returning else 2)
            return free > -beside and self._free * _RESERVED > self._slots
        if free <= 0:
            return False
        if not count and not destination.hung:
            # The last slots are for destinations that answer. The others
            # leave some, however many come with one call each.
            return (
                now - destination.answered_at <= _RECENT
                or self._free * _RESERVED > self._slots
            )
        # A new name at the address of slow ones need not be slow.
        is_trial = destination.is_new and not destination.starts
        if not is_trial and not destination.is_lively(now):
            return (count / _SILENT + 1) * self._slots <= free**2
        waited_for = destination.booked_until > now and not returning
        factor = _AWAITED if waited_for else _LIVELY
        return (count + 1) * self._slots <= free**2 * factor

    def _competition(
        self, destination: Destination, now: float
    ) -> tuple[int, int]:
        """Return what the threshold compares: calls and free slots.

        Unless the destination is fast, the calls are those of all at its
        address that are not. The free slots of a slow one are twice what is
        free of the half that all slow ones have together. That is negative
        while new ones have more than that half.
        """
        count = len(destination.starts)
        if destination.is_fast(now):
            return count, self._free
        is_slow = destination.is_slow(now)
        room = self._half - count
        for other in self._calling.values():
            if other is destination or other.is_fast(now):
                continue
            if other.address == destination.address is not None:
                count += len(other.starts)
            if is_slow and other.is_slow(now):
                room -= len(other.starts)
        if not is_slow:
            return count, self._free - self._slots // _FOR_FAST
        if not destination.is_new and self._strangers.booked_until > now:
            room -= self._half // 2
        return count, min(self._free, 2 * room)

    def _defer(self, destination: Destination, now: float) -> Deferral:
        """Return when a call that may not go out now may come again."""
        if destination.is_open:
            return destination.wait_for_probe(now)
        if destination.is_slow(now) and not destination.starts:
            reason = "busy: hosts that are slow or new have all their slots"
        else:
            reason = (
                f"busy: {len(destination.starts)} calls to {destination.name}"
                " are under way, its share"
            )
        if destination.duration or destination.starts:
            pace = destination.estimate(now) / self._share(destination, now)
            until = destination.book(now, pace)
        else:
            until = self._strangers.book(now, self._pace_of_slow(now))
            until = min(until, now + LONGEST_NEW)
        # Some come a little early, so that no slot stays empty.
        wait = (until - now) * random.uniform(0.75, 1.0)
        return Deferral(max(wait, SHORTEST_WAIT), False, reason)

    def _share(self, destination: Destination, now: float) -> int:
        """Return about how many slots it will have if others keep theirs.

        That is the largest n with n * slots <= factor * free ** 2, where
        free is what is left before the n-th. As long as no call hung, a
        silent destination counts as one that will answer.
        """
        half = self._slots / (_SILENT if destination.hung else _LIVELY) / 2
        free = float(self._free)
        if destination.is_slow(now):
            half /= 4
            free = max(0, self._competition(destination, now)[1]) / 2
        unused = free + len(destination.starts) + 1
        share = unused + half - math.sqrt(half * (2 * unused + half))
        return max(1, int(share))

    def _pace_of_slow(self, now: float) -> float:
        """Return about how many seconds pass until a slow or new call ends.

        Calls that are under way have lasted half of their time, on average.
        """
        ages = [
            now - start
            for each in self._calling.values()
            if each.is_slow(now)
            for start in each.starts
        ]
        return 2 * sum(ages) / len(ages) ** 2 if ages else 0.0

    def _keep(self, destination: Destination) -> None:
        """Remember one without calls under way, for as long as there's room.

        Those that were asked for longest ago are forgotten first. One that
        hangs is asked for as long as timers wait for it.
        """
        self._idle[destination.origin] = destination
        if len(self._idle) > _MOST_IDLE:
            _, forgotten = self._idle.popitem(last=False)
            self._open -= forgotten.is_open

"""What a worker process knows of one destination: a host and a port.

It counts the calls under way, learns how long calls take, and keeps a circuit
breaker: a destination that hangs is called by one probe at a time, until one
is answered.
"""

import random
from dataclasses import dataclass

Origin = tuple[str, int]
"""Host and port."""

HUNG_IN_A_ROW = 5
"""A destination hangs after this many calls in a row without an answer."""

PATIENCE = 0.1
"""How long a call waits for a slot where calls are quick, in seconds: a burst
to a fast receiver is not worth a detour over Postgres."""

QUICK = 1.0
"""A destination is slow if its calls take this long, in seconds."""

SHORTEST_WAIT, LONGEST_WAIT = 0.1, 60.0
"""Bounds of a deferral's wait, in seconds."""

_SMOOTHING = 1 / 8
#: How many quick answers in a row a new destination needs to count as fast,
#: and a slow one needs to be slow no more.
_PROVEN, _CURED = 5, 10


@dataclass(frozen=True, slots=True)
class Deferral:
    """A call that may not go out now.

    wait     seconds until it makes sense to ask again
    hanging  whether the reason is that the destination answers nothing
    reason   the reason in words, for people who look at the timer
    """

    wait: float
    hanging: bool
    reason: str


class Destination:
    """What is known of one destination; times are the clock's."""

    __slots__ = (
        "address",
        "answered_at",
        "booked_until",
        "credit",
        "duration",
        "hung",
        "opened_at",
        "origin",
        "probe_at",
        "starts",
    )

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        #: Where the last call was to go; None through a proxy.
        self.address: str | None = None
        #: When the calls under way started. One that ends counts as the first
        #: that started: the durations' sum and mean are right all the same.
        self.starts: list[float] = []
        #: How long a call takes, a moving average; 0 before the first ended.
        self.duration = 0.0
        self.answered_at = float("-inf")
        #: How many quick answers came in a row, up to _PROVEN. A slow one
        #: sets it to -_CURED.
        self.credit = 0
        #: How many calls in a row hung. It is open once there are enough.
        self.hung = 0
        self.opened_at = self.probe_at = float("-inf")
        #: When there is room for the next deferred call.
        self.booked_until = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether only a probe may be sent."""
        return self.hung >= HUNG_IN_A_ROW

    @property
    def is_new(self) -> bool:
        """Whether no call of it has been answered, and none has hung."""
        return not self.hung and self.answered_at == float("-inf")

    @property
    def name(self) -> str:
        """Host and port as in a URL."""
        host, port = self.origin
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def is_lively(self, now: float) -> bool:
        """Tell whether it has answered, and its next answer is not late."""
        if self.hung or self.answered_at == float("-inf"):
            return False
        if not self.starts:
            return True
        since = max(self.answered_at, self.starts[0])
        return now - since <= max(1.0, 2 * self.duration)

    def estimate(self, now: float) -> float:
        """Return how long a call takes, in seconds.

        The age of the calls under way shows that it may hang, long before
        the first of them has timed out.
        """
        if self.is_lively(now) or not self.starts:
            return self.duration
        age = now - sum(self.starts) / len(self.starts)
        return max(self.duration, age)

    def is_slow(self, now: float) -> bool:
        """Tell whether it is not known to answer quickly."""
        return self.credit < 0 or not self.is_lively(now)

    def is_fast(self, now: float) -> bool:
        """Tell whether it has answered at once for some time."""
        return (
            self.credit >= _PROVEN
            and self.duration <= PATIENCE
            and self.is_lively(now)
        )

    def ends_soon(self, now: float) -> bool:
        """Tell whether one of the calls under way should end soon."""
        return bool(self.starts) and self.estimate(now) <= PATIENCE

    def leave(self, now: float, hung: bool | None) -> None:
        """Note the end of a call."""
        start = self.starts.pop(0)
        if hung is None:
            return
        took = now - start
        if took < QUICK:
            self.credit = min(_PROVEN, self.credit + 1)
        else:
            self.credit = -_CURED
        if self.duration:
            self.duration += (took - self.duration) * _SMOOTHING
        else:
            self.duration = took
        if not hung:
            # What its calls took before it hung says nothing of it now.
            if self.is_open:
                self.duration, self.booked_until = took, now
            self.hung, self.answered_at = 0, now
        elif start > self.answered_at:
            self.hung += 1
            if self.hung == HUNG_IN_A_ROW:
                self.opened_at = now
            if self.is_open:
                self.probe_at = now + max(1.0, self.backoff(now))

    def backoff(self, now: float) -> float:
        """Return the seconds it has hung, bounded: so waits about double."""
        return min(now - self.opened_at, LONGEST_WAIT / 2)

    def book(self, now: float, pace: float) -> float:
        """Return when there should be room for the next deferred call."""
        until = max(now, self.booked_until) + pace
        self.booked_until = min(until, now + LONGEST_WAIT)
        return self.booked_until

    def wait_for_probe(self, now: float) -> Deferral:
        """Return when the next probe may have been answered.

        Deferred calls are spread over as long again as it has hung, and at
        least over the time that a probe takes.
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

"""The delay ladder: how a delay is written in queues with fixed TTLs.

Messages in a queue with one fixed TTL expire in the order they came, so such
queues are exact. A TTL per message is not: the head of the queue blocks the
rest. A delay is therefore written in two digits, seconds and hundredths, and
a message waits in one queue per digit that isn't zero::

    delay.seconds ──> delay.30s ──> delay.hundredths ──> delay.250ms
                                                              │ delay.target
                                                              v
                                                            timers

The routing key ``<seconds>.<hundredths>.<target queue>`` survives
dead-lettering. Both ladder exchanges have ``delay.target`` as their alternate
exchange: a digit without a queue, zero included, leads straight to the target
queue. RabbitMQ would otherwise drop the message, and confirm it all the same.

RabbitMQ may refuse to declare some rungs (``detour``). A message then reaches
its target queue early, and the worker sends it on its way again.

Nothing here talks to RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

#: The longest delay that the ladder can carry, in milliseconds.
HORIZON_MS = 60_000
#: The ladder's resolution, in milliseconds. Delays are rounded down to it.
RUNG_MS = 10

SECONDS = "delay.seconds"
HUNDREDTHS = "delay.hundredths"
TARGET = "delay.target"

#: The topic exchanges, in the order to declare them, with their arguments.
EXCHANGES: Mapping[str, Mapping[str, str]] = MappingProxyType({
    TARGET: {},
    HUNDREDTHS: {"alternate-exchange": TARGET},
    SECONDS: {"alternate-exchange": TARGET},
})

#: How long a rejected message is kept, in milliseconds: 7 days, as in
#: Dramatiq.
DEAD_LETTER_TTL_MS = 7 * 24 * 3600 * 1000

Arguments = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Rung:
    """One queue of the ladder: messages wait in it for ``ttl_ms``."""

    queue: str
    ttl_ms: int
    #: The exchange that the queue is bound to, and the key.
    exchange: str
    binding_key: str
    #: Where messages go when they expire, with their routing key unchanged.
    next_exchange: str

    @property
    def arguments(self) -> Arguments:
        """The queue's arguments.

        The type is explicit because a virtual host may have another default.
        """
        return {
            "x-queue-type": "classic",
            "x-message-ttl": self.ttl_ms,
            "x-dead-letter-exchange": self.next_exchange,
        }


@dataclass(frozen=True, slots=True)
class Route:
    """Where to publish a message, and the rungs that it climbs down."""

    exchange: str
    routing_key: str
    rungs: tuple[Rung, ...]
    #: The queue that the message reaches in the end.
    queue: str


@cache
def _seconds_rung(seconds: int) -> Rung:
    return Rung(
        queue=f"delay.{seconds}s",
        ttl_ms=seconds * 1000,
        exchange=SECONDS,
        binding_key=f"{seconds}.#",
        next_exchange=HUNDREDTHS,
    )


@cache
def _hundredths_rung(hundredths: int) -> Rung:
    return Rung(
        queue=f"delay.{hundredths * RUNG_MS}ms",
        ttl_ms=hundredths * RUNG_MS,
        exchange=HUNDREDTHS,
        binding_key=f"*.{hundredths}.#",
        next_exchange=TARGET,
    )


#: The most important rungs: a few rounds on them make up any delay.
_FIRST = (1, 2, 4, 8, 16, 32)


@cache
def rungs() -> tuple[Rung, ...]:
    """Return all rungs, 1 to 60 s and 10 to 990 ms, in order to declare.

    RabbitMQ may allow only some of them. The first ones are those with which
    a message then needs the fewest rounds.
    """
    seconds = range(1, HORIZON_MS // 1000 + 1)
    hundredths = range(1, 1000 // RUNG_MS)
    return (
        *map(_seconds_rung, _FIRST),
        *map(_hundredths_rung, (*reversed(_FIRST), 64)),
        *(_seconds_rung(n) for n in seconds if n not in _FIRST),
        *(_hundredths_rung(n) for n in hundredths if n not in (*_FIRST, 64)),
    )


def check_delay(delay_ms: int) -> None:
    """Raise ValueError for a delay that is beyond the ladder's reach."""
    if not 0 <= delay_ms <= HORIZON_MS:
        raise ValueError(
            f"A delay is 0 to {HORIZON_MS} ms, not {delay_ms}: "
            f"longer waits are rows, not messages."
        )


def route(delay_ms: int, queue: str) -> Route:
    """Return the way to ``queue`` that takes ``delay_ms`` milliseconds.

    The delay is rounded down to RUNG_MS. Raises ValueError if it is negative
    or longer than HORIZON_MS.
    """
    check_delay(delay_ms)
    return _route(*divmod(delay_ms // RUNG_MS, 1000 // RUNG_MS), queue)


def _route(seconds: int, hundredths: int, queue: str) -> Route:
    climb: list[Rung] = []
    if seconds:
        climb.append(_seconds_rung(seconds))
    if hundredths:
        climb.append(_hundredths_rung(hundredths))
    return Route(
        exchange=climb[0].exchange if climb else TARGET,
        routing_key=f"{seconds}.{hundredths}.{queue}",
        rungs=tuple(climb),
        queue=queue,
    )


def detour(route: Route, missing: Container[str]) -> Route | None:
    """Return the best way without the rungs whose queues are ``missing``.

    It is as long as possible, but no longer than ``route``. Where every rung
    is too long, the shortest one is taken, and the message comes late. None
    if no rung is left.
    """
    left = sum(rung.ttl_ms for rung in route.rungs)
    present = [rung for rung in rungs() if rung.queue not in missing]
    digits = {SECONDS: 0, HUNDREDTHS: 0}
    for rung in sorted(present, key=_length, reverse=True):
        if rung.ttl_ms <= left and not digits[rung.exchange]:
            digits[rung.exchange] = rung.ttl_ms
            left -= rung.ttl_ms
    if route.rungs and not any(digits.values()):
        if not present:
            return None
        shortest = min(present, key=_length)
        digits[shortest.exchange] = shortest.ttl_ms
    return _route(
        digits[SECONDS] // 1000, digits[HUNDREDTHS] // RUNG_MS, route.queue
    )


def _length(rung: Rung) -> int:
    return rung.ttl_ms


def target_binding_key(queue: str) -> str:
    """Return the key that binds a target queue to the target exchange."""
    return f"*.*.{queue}"


def dead_letter_queue(queue: str) -> str:
    """Return the name of the queue for rejected messages, as in Dramatiq."""
    return f"{queue}.XQ"


def target_arguments(queue: str, queue_type: str) -> Arguments:
    """Return the arguments of a target queue."""
    return {
        "x-queue-type": queue_type,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letter_queue(queue),
    }


def dead_letter_arguments(queue_type: str) -> Arguments:
    """Return the arguments of a queue for rejected messages."""
    return {"x-queue-type": queue_type, "x-message-ttl": DEAD_LETTER_TTL_MS}

"""How late the last call of each herd will be, by what workers can do.

Calls are taken for something that flows: a host's calls are made as fast as
its share of the workers' slots allows (docs/decisions/0039-ahead.md).
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apps.webhooks.destination import PATIENCE, QUICK

#: What a call takes besides the receiver's time, in seconds: it is claimed.
OVERHEAD = 0.005
#: How many calls a worker process makes in a second, at most.
MOST_CALLS = 900

#: Fewer calls than this count as none, because floats are not exact.
_NONE = 1e-6
#: The share of all slots that a host alone makes use of, by how long it takes;
#: that all slow ones do together; and all hosts. Fairness gives a little more
#: (docs/decisions/0009-destinations.md), but calls that are deferred leave
#: slots empty until they are back.
_SHARES = ((PATIENCE, 52 / 64), (QUICK, 46 / 64))
_SHARE_OF_SLOW, _SHARE_OF_ALL = 25 / 64, 52 / 64


@dataclass(frozen=True, slots=True)
class Crowd:
    """Calls that are due at once.

    at       when they are due, in seconds from any moment
    seconds  how long the host takes to answer
    """

    at: float
    host: str
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Workers:
    """How many processes of workers there are, and calls at once."""

    processes: int
    slots: int


def most_at_once(workers: Workers, seconds: float) -> float:
    """Return how many calls at once a host has alone; it takes `seconds`."""
    for longest, share in _SHARES:
        if seconds < longest:
            return workers.slots * share
    return workers.slots * _SHARE_OF_SLOW


def lateness(crowds: Sequence[Crowd], workers: Workers) -> list[float]:
    """Return how late each crowd's last call leaves, in seconds.

    There is at least one worker. Crowds of one host that wait together mix:
    calls that were deferred come back among newer ones. So the last of each
    leaves when the host's calls are all done.
    """
    late = [0.0] * len(crowds)
    ahead = deque(
        sorted(range(len(crowds)), key=lambda number: crowds[number].at)
    )
    waiting: dict[str, list[int]] = defaultdict(list)
    #: How many calls of each host are left.
    left: dict[str, float] = {}
    now = 0.0
    while ahead or waiting:
        if not waiting:
            now = crowds[ahead[0]].at
        while ahead and crowds[ahead[0]].at <= now:
            crowd = crowds[ahead[0]]
            waiting[crowd.host].append(ahead.popleft())
            left[crowd.host] = left.get(crowd.host, 0.0) + crowd.count
        rates = _rates(
            {host: crowds[each[0]].seconds for host, each in waiting.items()},
            workers,
        )
        step = min(left[host] / rate for host, rate in rates.items())
        if ahead:
            step = min(step, crowds[ahead[0]].at - now)
        now += step
        for host, rate in rates.items():
            left[host] -= rate * step
            if left[host] < _NONE:
                for number in waiting.pop(host):
                    late[number] = now - crowds[number].at
    return late


def _rates(
    seconds: Mapping[str, float], workers: Workers
) -> dict[str, float]:
    """Return how many calls a second each host gets, if these compete."""
    free = workers.slots * _SHARE_OF_ALL
    rates = {}
    # Those that may have least come first: the others share what these leave.
    hosts = sorted(seconds, key=seconds.__getitem__, reverse=True)
    slow = sum(each >= QUICK for each in seconds.values())
    for number, host in enumerate(hosts):
        most = most_at_once(workers, seconds[host])
        if number < slow:
            most /= slow
        share = min(most, free / (len(hosts) - number))
        free -= share
        rates[host] = share / (seconds[host] + OVERHEAD)
    excess = sum(rates.values()) / (MOST_CALLS * workers.processes)
    return {host: rate / max(1.0, excess) for host, rate in rates.items()}

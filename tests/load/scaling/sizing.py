"""Machines for so many timers a second, from what a timer has cost."""

import math
from dataclasses import dataclass

from tests.load.scaling.measure import USUAL, Growth, Phase
from tests.load.scaling.simulation import Costs, Layout

#: Timers a second that are sized for.
RATES = 1_000, 10_000, 100_000
#: Cores are planned to be busy for so much of the time.
UTILISATION = 0.5
CORES = 8               # of a machine
#: Assumed: timers a second of one cell, that is, of one Postgres and one
#: RabbitMQ, whose queue is one Erlang process.
CELL = 10_000
#: Assumed: a round trip between machines, and the share of RabbitMQ's work
#: from a timer's time on that is done by its queue's own process.
NETWORK_MS, QUEUE_SHARE = 0.5, 0.25
PARTS = "web", "worker", "dispatcher", "postgres", "rabbitmq"


def usual(growth: Growth, kind: str) -> Phase:
    """Return a phase as it was with the processes of `make stack`."""
    phases = growth.phases[kind]
    return phases.get(USUAL) or phases[max(phases)]


def life(growth: Growth) -> list[Phase]:
    """Return what a far timer goes through, in order."""
    return [usual(growth, kind) for kind in ("far", "promotions", "calls")]


def cpu_ms(growth: Growth) -> dict[str, float]:
    """Return what the whole life of a far timer costs in each part."""
    return {
        part: sum(phase.cpu_ms.get(part, 0.0) for phase in life(growth))
        for part in PARTS
    }


def cores(growth: Growth, rate: float) -> dict[str, int]:
    """Return the cores that each part needs, one at least."""
    return {
        part: math.ceil(rate * spent / 1000 / UTILISATION)
        for part, spent in cpu_ms(growth).items()
    }


def machines(growth: Growth, rate: float) -> int:
    """Return the machines of a cell, of which each runs one part."""
    counts = cores(growth, rate).values()
    return sum(math.ceil(count / CORES) for count in counts)


def layout(growth: Growth, rate: float) -> Layout:
    """Return processes and cores of a cell for so many near timers."""
    costs = simulated(growth)
    rows = 3 * costs.row

    def needed(milliseconds: float) -> int:
        return math.ceil(rate * milliseconds / 1000 / UTILISATION)

    # Two at least, so that one may be lost.
    return Layout(
        web=max(2, needed(costs.web)),
        worker=max(2, needed(costs.worker)),
        postgres=max(2, needed(rows + _commits(growth) * costs.flush)),
        rabbitmq=max(2, needed(costs.rabbitmq)),
    )


def simulated(growth: Growth) -> Costs:
    """Return a near timer's costs, with machines of their own.

    What a group costs Postgres, and what each of its rows, follows from two
    phases with groups of different sizes: the slowest rate and full speed.
    """
    near, calls = usual(growth, "near"), usual(growth, "calls")
    slow = usual(growth, slowest(growth))
    full_ms = near.cpu_ms["postgres"] + calls.cpu_ms["postgres"]
    full = _commits(growth)
    spared = max(slow.cpu_ms["postgres"] - full_ms, 0.0)
    flush = spared / max(slow.commits - full, 0.1)
    rabbitmq = calls.cpu_ms["rabbitmq"]
    return Costs(
        web=near.cpu_ms["web"],
        worker=calls.cpu_ms["worker"],
        rabbitmq=near.cpu_ms["rabbitmq"] + rabbitmq,
        queue=QUEUE_SHARE * rabbitmq,
        flush=flush,
        row=max(full_ms - full * flush, 0.03) / 3,
        fsync=growth.commit_ms,
        network=NETWORK_MS,
    )


def slowest(growth: Growth) -> str:
    """Return the kind of the phase with the lowest steady rate."""
    rates = [kind for kind in growth.phases if kind.startswith("at ")]
    return min(rates, key=lambda kind: usual(growth, kind).rate)


def _commits(growth: Growth) -> float:
    """Return commits for each near timer, at full speed."""
    return usual(growth, "near").commits + usual(growth, "calls").commits


@dataclass(frozen=True)
class Load:
    """What a rate asks of disks and networks, a second or a day."""

    wal_bytes: float        # a second
    commits: float          # a second; each waits for the disk at the most
    network_bytes: float    # a second
    kept_bytes: float       # a day


def load(growth: Growth, rate: float) -> Load:
    """Return what so many timers a second write and send."""
    phases = life(growth)
    far, _, calls = phases
    kept = sum(p.table_bytes + p.index_bytes for p in (far, calls))
    return Load(
        rate * sum(phase.wal_bytes for phase in phases),
        rate * sum(phase.commits for phase in phases),
        rate * sum(phase.network_bytes for phase in phases),
        86_400 * rate * kept,
    )

"""What was measured, sized and simulated, as Markdown tables by name.

The names are those of the blocks of docs/scaling.md.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tests.load.scaling import simulation, sizing
from tests.load.scaling.measure import Growth, Phase
from tests.load.scaling.simulation import Costs, Layout, Outcome
from tests.load.scaling.sizing import CELL, PARTS, RATES, cpu_ms, usual

Rows = Iterable[Iterable[object]]


def tables(growth: Growth) -> dict[str, str]:
    """Return every table, in the order of the page."""
    return {
        "growth": _growth(growth),
        "cost": _cost(growth),
        "sizes": _sizes(growth),
        "validation": _validation(growth),
        "simulated": _simulated(growth),
        "breaks": _breaks(growth),
    }


def fill(page: str, growth: Growth) -> str:
    """Return the page with the tables in its blocks replaced."""
    found = tables(growth)
    return re.sub(
        r"<!-- (\w+) -->.*?<!-- end -->",
        lambda block: f"<!-- {block[1]} -->\n{found[block[1]]}\n<!-- end -->",
        page, flags=re.DOTALL,
    )


def _table(head: Iterable[str], rows: Rows) -> str:
    names = list(head)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _growth(growth: Growth) -> str:
    most = max(len(phases) for phases in growth.phases.values())
    counts = sorted({n for p in growth.phases.values() for n in p})[:most]

    def rows() -> Iterator[list[str]]:
        for kind in "far", "near", "calls", "promotions":
            phases = growth.phases[kind]
            cells = [_speed(phases.get(count)) for count in counts]
            yield [_TITLES[kind], *cells]
        opened = [growth.connections.get(count) for count in counts]
        yield [
            "connections to Postgres / RabbitMQ",
            *(f"{o[0]} / {o[1]}" if o else "–" for o in opened),
        ]

    return _table(["a second (cores used)", *map(str, counts)], rows())


_TITLES = {
    "far": "far creates, by web processes",
    "near": "near creates, by web processes",
    "calls": "calls, by worker processes",
    "promotions": "promotions, by dispatchers",
}


def _speed(phase: Phase | None) -> str:
    return f"{phase.rate:,.0f} ({phase.cores:.1f})" if phase else "–"


def _cost(growth: Growth) -> str:
    kinds = ["far", "near", "promotions", "calls", sizing.slowest(growth)]
    phases = [usual(growth, kind) for kind in kinds]

    def row(title: str, values: Iterable[float], form: str) -> list[str]:
        return [title, *(format(value, form) for value in values)]

    rows = [
        row(f"{part}, ms", (p.cpu_ms.get(part, 0.0) for p in phases), ".3f")
        for part in PARTS
    ]
    rows += [
        row("WAL, bytes", (p.wal_bytes for p in phases), ",.0f"),
        row("commits", (p.commits for p in phases), ".3f"),
        row("tables grew, bytes", (p.table_bytes for p in phases), ",.0f"),
        row("indexes grew, bytes", (p.index_bytes for p in phases), ",.0f"),
        row("TCP, bytes", (p.network_bytes for p in phases), ",.0f"),
    ]
    titles = ["a far create", "a near create", "a promotion", "a call"]
    return _table(["each", *titles, f"a life, {kinds[-1]}"], rows)


def _sizes(growth: Growth) -> str:
    loads = [sizing.load(growth, rate) for rate in RATES]
    cores = [sizing.cores(growth, rate) for rate in RATES]
    milliseconds = cpu_ms(growth)
    rows = [
        [
            f"{part}, cores ({milliseconds[part]:.2f} ms)",
            *(f"{count[part]:,}" for count in cores),
        ]
        for part in PARTS
    ]
    cells = [max(1, rate // CELL) for rate in RATES]
    machines = [
        count * sizing.machines(growth, rate / count)
        for count, rate in zip(cells, RATES, strict=True)
    ]
    rows += [
        [f"machines of {sizing.CORES} cores", *(f"{m:,}" for m in machines)],
        ["cells", *map(str, cells)],
        ["WAL, MB/s", *(f"{ld.wal_bytes / 1e6:,.1f}" for ld in loads)],
        ["commits/s, at most", *(f"{ld.commits:,.0f}" for ld in loads)],
        ["TCP, MB/s", *(f"{ld.network_bytes / 1e6:,.1f}" for ld in loads)],
        ["kept, GB/day", *(f"{ld.kept_bytes / 1e9:,.0f}" for ld in loads)],
    ]
    return _table(["timers a second", *(f"{r:,}" for r in RATES)], rows)


def _validation(growth: Growth) -> str:
    """Compare rates with those that were measured, on one machine."""
    rows = []
    for count, phase in growth.phases["near"].items():
        costs = _costs_here(growth, phase, web=phase.cpu_ms["web"])
        here = _here(growth, count, phase)
        rate = simulation.creates(here, costs, phase.timers)
        rows.append(_compared(f"near creates/s, {count}", phase, rate))
    for count, phase in growth.phases["calls"].items():
        costs = _costs_here(growth, phase, worker=phase.cpu_ms["worker"])
        here = _here(growth, count, phase)
        rate = simulation.burst(here, costs, phase.timers).rate
        rows.append(_compared(f"calls/s, {count}", phase, rate))
    return _table(["", "measured", "simulated", "error"], rows)


def _here(growth: Growth, count: int, phase: Phase) -> Layout:
    return Layout(count, count, shared=growth.cores, others=phase.others)


def _costs_here(growth: Growth, phase: Phase, **measured: float) -> Costs:
    """Return a timer's costs on this one machine.

    A phase has a create or a call. The simulated bench takes the time of
    both, so it costs twice as much as in the phase.
    """
    all_ms = 1000 * phase.cores / phase.rate
    bench = 2 * max(all_ms - sum(phase.cpu_ms.values()), 0.0)
    return replace(
        sizing.simulated(growth), network=0.0, bench=bench, **measured
    )


def _compared(title: str, phase: Phase, found: float) -> list[str]:
    error = found / phase.rate - 1
    return [title, f"{phase.rate:,.0f}", f"{found:,.0f}", f"{error:+.0%}"]


_HEAD = (
    "", "web", "worker", "Postgres", "RabbitMQ",
    "busy: web, worker, Postgres, RabbitMQ, its queue",
)


def _simulated(growth: Growth) -> str:
    costs = sizing.simulated(growth)
    rows = []
    for rate in (rate for rate in RATES if rate <= CELL):
        cell = sizing.layout(growth, rate)
        done = simulation.steady(cell, costs, rate, 3)
        rows.append(_outcome(f"{rate:,}/s", cell, done))
    whole = sizing.layout(growth, max(RATES))
    done = simulation.steady(whole, costs, max(RATES), 0.5)
    rows.append(_outcome(f"{max(RATES):,}/s, in one cell", whole, done))
    return _table(_HEAD, rows)


def _breaks(growth: Growth) -> str:
    """Show a cell with less than half of what each part has."""
    costs, rows = sizing.simulated(growth), []
    cell = sizing.layout(growth, CELL)
    for part in "web", "worker", "postgres", "rabbitmq":
        fewer = max(1, int(0.45 * getattr(cell, part)))
        less = replace(cell, **{part: fewer})
        done = simulation.steady(less, costs, CELL, 2)
        rows.append(_outcome(f"{part}: {fewer}", less, done))
    return _table(_HEAD, rows)


def _outcome(title: str, cell: Layout, done: Outcome) -> list[str]:
    parts = cell.web, cell.worker, cell.postgres, cell.rabbitmq
    busy = ", ".join(f"{share:.0%}" for share in done.busy.values())
    if not done.keeps_up:
        title += ", falls behind"
    return [title, *map(str, parts), busy]

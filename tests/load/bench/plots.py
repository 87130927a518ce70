"""The figures as pictures: lateness, and the cost of sleeping timers."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.load.bench.run import Figures, Run, asleep_steps

_SHARES = [number / 1000 for number in range(1001)]


def draw(run: Run, directory: Path) -> None:
    """Write lateness.png and, if any timer slept, asleep.png."""
    directory.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 5), layout="constrained")
    _lateness(figure.subplots(), run)
    figure.savefig(directory / "lateness.png", dpi=120)
    if run.sizes.asleep:
        _asleep(run).savefig(directory / "asleep.png", dpi=120)


def _asleep(run: Run) -> Figure:
    rate = run.sizes.rates[0]
    figure = Figure(figsize=(8, 8), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    for name, title in run.titles.items():
        found = run.results[name]
        steps = asleep_steps(name, run.sizes)
        _curve(upper, title, _p99(found, rate, (0, *steps)))
        _curve(lower, title, _memory(found, steps))
    upper.set(
        ylabel="late, p99, ms", yscale="log",
        title=f"At {rate} timers a second, others asleep",
    )
    lower.set(ylabel="MB outside Postgres", xlabel="sleeping timers")
    lower.set_xscale("symlog", linthresh=1000)
    lower.set_xlim(left=0)
    upper.legend()
    return figure


def _lateness(axes: Axes, run: Run) -> None:
    rate = run.sizes.rates[0]
    for name, title in run.titles.items():
        most = max(asleep_steps(name, run.sizes), default=0)
        color = None
        for asleep, style in {0: "-", most: "--"}.items():
            key = f"{rate}/s, {asleep} asleep"
            if late := run.results[name].late.get(key):
                label = f"{title}, {asleep:,} asleep"
                (line,) = axes.plot(
                    late, _SHARES, style, label=label, color=color
                )
                color = line.get_color()
    axes.set(
        xscale="log", xlabel="late, ms", ylabel="share of calls",
        title=f"Lateness at {rate} timers a second",
    )
    axes.legend()


def _curve(
    axes: Axes, title: str, points: Iterator[tuple[int, float]]
) -> None:
    if drawn := list(points):
        axes.plot(*zip(*drawn, strict=True), "o-", label=title)


def _p99(
    found: Figures, rate: int, steps: tuple[int, ...]
) -> Iterator[tuple[int, float]]:
    for count in steps:
        if late := found.late.get(f"{rate}/s, {count} asleep"):
            yield count, late[990]


def _memory(
    found: Figures, steps: tuple[int, ...]
) -> Iterator[tuple[int, float]]:
    """Yield what all that sleep hold, in MB, at each step."""
    for count in steps:
        each = found.numbers.get(f"{count} asleep memory")
        if each is not None:
            yield count, each * count / 1e6

"""The figures as one Markdown table, with their ratios."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.load.bench.run import (
    LIMIT,
    MACHINE,
    SERVICE,
    Figures,
    Results,
    Run,
    Sizes,
    asleep_steps,
)

_PARTS = "web", "dispatcher", "worker", "supervisor", "postgres", "rabbitmq"
_NOTHING = "–"


@dataclass(frozen=True)
class _Row:
    """A line: what to print of a side, and what to divide by the base.

    That is what the service has, or the side's own figure of a name.
    """

    title: str
    text: Callable[[str, Figures], str]
    value: Callable[[str, Figures], float]
    base: str = SERVICE

    def ratio(self, name: str, results: Results) -> float:
        """Return how a side compares with the base, NaN if it does not."""
        value = self.value(name, results[name])
        if self.base != SERVICE:
            base = results[name].numbers.get(self.base, math.nan)
        elif name == SERVICE or SERVICE not in results:
            base = math.nan
        else:
            base = self.value(SERVICE, results[SERVICE])
        return value / base if base else math.nan


def markdown(run: Run) -> str:
    """Return the table, and under it what it was measured with."""
    results, titles = run.results, run.titles
    lines = [
        "| | " + " | ".join(titles.values()) + " |",
        "|---|" + "---:|" * len(titles),
    ]
    for row in _rows(run.sizes):
        cells = [_cell(row, name, results) for name in titles]
        if any(cell != _NOTHING for cell in cells):
            lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    lines += ["", _notes(run)]
    lines += [
        f"{titles[name]} could not be measured to the end: {failure}"
        for name in titles for failure in results[name].failures
    ]
    return "\n".join(lines)


def _cell(row: _Row, name: str, results: Results) -> str:
    text = row.text(name, results[name])
    ratio = row.ratio(name, results)
    if text == _NOTHING or math.isnan(ratio):
        return text
    return f"{text} (×{ratio:,.0f})" if ratio >= 10 else (
        f"{text} (×{ratio:.2f})"
    )


def _rows(sizes: Sizes) -> Iterator[_Row]:
    for key in "far", "near":
        title = f"{key} creates / s (× the no-op)"
        yield _number(title, key, "{:,.0f}", key + LIMIT)
    for rate in sizes.rates:
        yield from _late_at(rate, sizes)
    count = f"{sizes.burst:,} due in one second"
    yield _number(
        f"{count}: calls / s (× a bare loop)", "burst", "{:,.0f}",
        "burst" + LIMIT,
    )
    yield _number(f"{count}: s to the last call", "burst last", "{:.1f}")
    yield _memory(sizes)
    count = f"{sizes.overdue:,} overdue at start"
    yield _number(f"{count}: s to the first call", "recovery first", "{:.1f}")
    yield _number(f"{count}: s to the last call", "recovery last", "{:.1f}")
    yield _late(
        "others due meanwhile, late by, ms (× p99)", lambda _: "meanwhile"
    )
    yield _number("idle, % of a core", "idle", "{:.1f}")
    for work in ("burst", *(f"{rate}/s" for rate in sizes.rates)):
        yield from _cpu(work)
    yield _Row("calls missing / twice / early", _wrong, _none)


def _number(
    title: str, key: str, form: str, base: str = SERVICE
) -> _Row:
    def value(name: str, found: Figures) -> float:
        return found.numbers.get(key, math.nan)

    def text(name: str, found: Figures) -> str:
        number = value(name, found)
        return _NOTHING if math.isnan(number) else form.format(number)

    return _Row(title, text, value, base)


def _late(title: str, key: Callable[[str], str]) -> _Row:
    def quantiles(name: str, found: Figures) -> list[float]:
        late = found.late.get(key(name))
        return [late[500], late[990], late[1000]] if late else []

    def text(name: str, found: Figures) -> str:
        shown = [f"{late:,.1f}" for late in quantiles(name, found)]
        return " / ".join(shown) or _NOTHING

    def value(name: str, found: Figures) -> float:
        return (quantiles(name, found) or [0, math.nan])[1]

    return _Row(title, text, value)


def _late_at(rate: int, sizes: Sizes) -> Iterator[_Row]:
    """Yield lateness without sleeping timers, and with the most."""
    title = f"late at {rate}/s, p50 / p99 / most, ms (× p99)"
    yield _late(f"{title}, none asleep", lambda _: f"{rate}/s, 0 asleep")
    if sizes.asleep:
        yield _late(
            f"{title}, asleep¹",
            lambda name: f"{rate}/s, {_most_asleep(name, sizes)} asleep",
        )


def _cpu(work: str) -> Iterator[_Row]:
    """Yield what a timer costs from create to call, in all and by part."""
    title = f"CPU a timer, {work}, ms"
    yield _number(f"{title}: in all", f"{work} cpu", "{:.2f}")
    for part in _PARTS:
        key = f"{work} cpu {part}"
        yield _number(f"{title}: {part}", key, "{:.2f}", base="")


def _memory(sizes: Sizes) -> _Row:
    def value(name: str, found: Figures) -> float:
        count = _most_asleep(name, sizes)
        return found.numbers.get(f"{count} asleep memory", math.nan)

    def text(name: str, found: Figures) -> str:
        number = value(name, found)
        if math.isnan(number):
            return _NOTHING
        return f"{number:,.0f} of {_most_asleep(name, sizes):,}"

    return _Row("bytes a sleeping timer, outside Postgres¹", text, _none)


def _most_asleep(name: str, sizes: Sizes) -> int:
    return max(asleep_steps(name, sizes), default=0)


def _none(name: str, found: Figures) -> float:
    return math.nan


def _wrong(name: str, found: Figures) -> str:
    kinds = [found.numbers.get(k) for k in ("missing", "twice", "early")]
    if None in kinds:
        return _NOTHING
    return " / ".join(f"{kind:,.0f}" for kind in kinds)


def _notes(run: Run) -> str:
    receiver = run.results[MACHINE].numbers["receiver"]
    return (
        f"¹ As many as the row about bytes says. {run.about} The receiver"
        f" takes {receiver:,.0f} calls/s. The no-op is measured in turn with"
        f" each of the others, a bare loop around `requests`' adapter (of as"
        f" many processes and threads as the workers have) before and after"
        f" each burst; in the no-op's column are the medians."
    )

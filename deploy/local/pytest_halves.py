"""A pytest plugin: one half of a run, and what came of it.

`make test` runs pytest twice. Several workers of pytest-xdist, each with a
database of its own, share the tests that may run side by side; a file's
tests stay together, because they may share what the file starts. What
measures time (QUIET) runs afterwards. Such tests mostly wait, so a few run
side by side; those that load or break the machine run one by one.

With ``--half`` only one half is run. ``--notes`` names a directory: in it is
said which files have tests for the second half, and how many tests ended how.
"""

import json
import os
from pathlib import Path

import pytest

TOGETHER, QUIET = "together", "quiet"
MARKS_OF_QUIET = ("quiet", "chaos", "load")
# In the directory of notes.
COUNTS, LEFT = "counts.json", "left.json"
# pytest's categories, in its order; and its words for more than one.
CATEGORIES = {
    "failed": "failed", "passed": "passed", "skipped": "skipped",
    "xfailed": "xfailed", "xpassed": "xpassed", "error": "errors",
}
# Beside those: broker tests skipped, and whether -x or the like stopped it.
WITHOUT_RABBITMQ, STOPPED = "without RabbitMQ", "stopped"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `deploy.local.testing` says to each half."""
    group = parser.getgroup("halves")
    group.addoption("--half", choices=(TOGETHER, QUIET))
    group.addoption("--notes", type=Path)


@pytest.hookimpl(tryfirst=True)  # before xdist's own, which is the cores'
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many workers `-n auto` means: tests mostly wait."""
    if config.option.half == QUIET:
        return 0 if loads(config.option.markexpr) else 3
    return 2 * min(os.cpu_count() or 1, 3) + 1


def loads(markexpr: str) -> bool:
    """Tell whether a `-m` selects tests that load or break the machine."""
    return "not load" not in markexpr


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Keep this half's tests, the long ones of many workers first."""
    half = config.option.half
    if half is None:
        return
    left = {str(item.path) for item in items if _half_of(item) == QUIET}
    if left and half == TOGETHER:
        (config.option.notes / LEFT).write_text(json.dumps(sorted(left)))
    items[:] = filter(lambda item: _half_of(item) == half, items)
    items.sort(key=_rank)


def pytest_ignore_collect(
    collection_path: Path, config: pytest.Config
) -> bool | None:
    """Spare the second half the files that have nothing for it."""
    if config.option.half != QUIET or collection_path.is_dir():
        return None
    left = json.loads((config.option.notes / LEFT).read_text())
    return None if str(collection_path) in left else True


def _rank(item: pytest.Item) -> int:
    """Put files that run processes first, and those that need none last."""
    if "unit" in item.path.parts:
        return 2
    runs_processes = item.path.name.startswith(("test_service", "test_deploy"))
    return 0 if runs_processes else 1


def _half_of(item: pytest.Item) -> str:
    quiet = any(map(item.get_closest_marker, MARKS_OF_QUIET))
    return QUIET if quiet else TOGETHER


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Note how many tests ended how; the workers leave that to pytest."""
    config = session.config
    if config.option.notes is None or hasattr(config, "workerinput"):
        return
    reporter = config.pluginmanager.getplugin("terminalreporter")
    stats = reporter.stats if reporter else {}
    counts = {name: len(stats.get(name, [])) for name in CATEGORIES}
    counts[WITHOUT_RABBITMQ] = sum(
        "rabbitmq" in report.keywords for report in stats.get("skipped", [])
    )
    counts[STOPPED] = bool(session.shouldfail or session.shouldstop)
    (config.option.notes / COUNTS).write_text(json.dumps(counts))

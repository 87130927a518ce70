"""A pytest plugin: one half of a run, and what came of it.

`make test` runs pytest twice. Several workers of pytest-xdist, each with a
database of its own, share the tests that may run side by side; a file's
tests stay together, because they may share what the file starts. What
measures time or breaks the servers (ALONE) runs afterwards, one by one.

With ``--half`` only one half is run. ``--notes`` names a directory: in it is
said what this half left to the other, and how many tests ended how.
"""

import json
import os
from pathlib import Path

import pytest

TOGETHER, SERIAL = "together", "alone"
ALONE = ("alone", "chaos", "load")
# In the directory of notes.
COUNTS, LEFT = "counts.json", "left"
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
    group.addoption("--half", choices=(TOGETHER, SERIAL))
    group.addoption("--notes", type=Path)


@pytest.hookimpl(tryfirst=True)  # before xdist's own, which is the cores'
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` means: tests mostly wait."""
    return 2 * min(os.cpu_count() or 1, 3) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Keep this half's tests, the long ones of many workers first."""
    half = config.option.half
    if half is None:
        return
    kept = [item for item in items if _half_of(item) == half]
    if len(kept) < len(items):
        (config.option.notes / LEFT).touch()
    items[:] = sorted(kept, key=_rank)


def _rank(item: pytest.Item) -> int:
    """Put files that run processes first, and those that need none last."""
    if "unit" in item.path.parts:
        return 2
    runs_processes = item.path.name.startswith(("test_service", "test_deploy"))
    return 0 if runs_processes else 1


def _half_of(item: pytest.Item) -> str:
    alone = any(map(item.get_closest_marker, ALONE))
    return SERIAL if alone else TOGETHER


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

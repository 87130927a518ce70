"""A pytest plugin that runs one half of the tests, and notes the results.

`make test` runs pytest twice. Several workers of pytest-xdist, each with a
database of its own, share the tests that may run side by side. A file's
tests stay together, because they may share what the file starts; so do those
of SHARED. The tests
that measure time (QUIET) run afterwards. They mostly wait, so a few run side
by side. Tests that load or break the machine run one by one.

``--half`` runs only one half. ``--notes`` names a directory for two notes:
which files have tests for the second half, and how many tests passed, failed
and so on.
"""

import json
import os
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from deploy.local.halves import (
    CATEGORIES,
    COUNTS,
    LEFT,
    MARKS_OF_QUIET,
    QUIET,
    STOPPED,
    TOGETHER,
    WITHOUT_RABBITMQ,
    loads,
)

# Tests that share what their directory starts: it starts in one worker only.
SHARED = "tests/browser"


class SharedScheduling(LoadFileScheduling):  # type: ignore[misc]
    """`--dist loadfile`, with the files in `SHARED` like one."""

    def _split_scope(self, nodeid: str) -> str:
        """Return what has to run in one worker, as xdist wants it."""
        if nodeid.startswith(f"{SHARED}/"):
            return SHARED
        return str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(
    config: pytest.Config, log: object
) -> SharedScheduling | None:
    """Return who gives tests to workers; None if the caller has chosen."""
    if config.getvalue("dist") != "loadfile":
        return None
    return SharedScheduling(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that `deploy.local.halves` gives each half."""
    group = parser.getgroup("halves")
    group.addoption("--half", choices=(TOGETHER, QUIET))
    group.addoption("--notes", type=Path)


@pytest.hookimpl(tryfirst=True)  # before xdist's, which counts cores
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many workers `-n auto` means: tests mostly wait."""
    if config.option.half == QUIET:
        return 0 if loads(config.option.markexpr) else 3
    return 2 * min(os.cpu_count() or 1, 3) + 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Keep this half's tests; those that take long come first."""
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
    """Skip, in the second half, the files that have no tests for it."""
    if config.option.half != QUIET or collection_path.is_dir():
        return None
    left = json.loads((config.option.notes / LEFT).read_text())
    return None if str(collection_path) in left else True


def _rank(item: pytest.Item) -> int:
    """Put the longest files first: the model's, then those with processes.

    Browser tests run like one file. Those that need neither processes nor
    servers come last.
    """
    if "model" in item.path.parts:
        return 0
    if "unit" in item.path.parts:
        return 3
    if "browser" in item.path.parts:
        return 1
    runs_processes = item.path.name.startswith(("test_service", "test_deploy"))
    return 1 if runs_processes else 2


def _half_of(item: pytest.Item) -> str:
    quiet = any(map(item.get_closest_marker, MARKS_OF_QUIET))
    return QUIET if quiet else TOGETHER


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Note how many tests passed, failed and so on, but not in a worker."""
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

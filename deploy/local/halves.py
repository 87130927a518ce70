"""Runs pytest in two halves, and prints the results of both together."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.services import ROOT
from deploy.local.supervisor import Stopping, Supervisor

# The plugin that keeps one half's tests. It needs pytest, and this module,
# which `make run` imports as well, must not.
PLUGIN = "deploy.local.pytest_halves"
TOGETHER, QUIET = "together", "quiet"
MARKS_OF_QUIET = ("quiet", "chaos", "load")
# Files in the directory of notes.
COUNTS, LEFT = "counts.json", "left.json"
# pytest's categories, in its order, with their plurals.
CATEGORIES = {
    "failed": "failed", "passed": "passed", "skipped": "skipped",
    "xfailed": "xfailed", "xpassed": "xpassed", "error": "errors",
}
# Also noted: skipped broker tests, and whether -x or the like stopped the run.
WITHOUT_RABBITMQ, STOPPED = "without RabbitMQ", "stopped"

# A run adds these to pytest's arguments. The caller's own come later and may
# change them: `-n 0` runs the tests one by one.
WORKERS = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
DURATIONS = "--durations=25"

NO_TESTS = 5
WIDTH = 80


class Halves:
    """One run of the tests: its halves, what they noted, how they ended."""

    def __init__(
        self,
        supervisor: Supervisor,
        env: Mapping[str, str],
        args: Sequence[str],
        notes: Path,
    ) -> None:
        self._supervisor = supervisor
        self._env = env
        self._args = args
        self._notes = notes
        self._counts: Counter[str] = Counter()
        self._statuses: list[int] = []
        self._began = time.monotonic()

    def run(self, to_install: str | None) -> int:
        """Run both; return pytest's exit status of the two together.

        If RabbitMQ is missing, `to_install` is the command that installs it.
        It is printed before the last line, with the number of tests that were
        skipped.
        """
        self._run(TOGETHER)
        left = (self._notes / LEFT).exists()
        if left and not self._counts[STOPPED] and self._statuses[0] in (
            0, 1, NO_TESTS
        ):
            self._run(QUIET)
        if self._counts:
            self._tell(to_install)
        ended = {status for status in self._statuses if status != NO_TESTS}
        return max(ended, default=NO_TESTS)

    def _run(self, half: str) -> None:
        """Run one half in our process group, so that it has the terminal."""
        command = [
            sys.executable, "-m", "pytest",
            "-p", PLUGIN, DURATIONS, *WORKERS,
            *self._args,
            f"--half={half}", f"--notes={self._notes}",
        ]
        process = subprocess.Popen(command, cwd=ROOT, env=self._env)
        self._supervisor.hold_pid(process.pid)
        try:
            while process.poll() is None:
                self._supervisor.pause(1.0)
        except Stopping:
            # The terminal sends it Ctrl-C; we send it SIGINT for the other
            # signals. Either way it leaves its fixtures before it ends.
            if self._supervisor.stop_signal != signal.SIGINT:
                process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30.0)
            process.kill()
            raise
        self._supervisor.release_pid(process.pid)
        self._statuses.append(process.returncode)
        with contextlib.suppress(FileNotFoundError):
            counts = self._notes / COUNTS
            self._counts.update(json.loads(counts.read_text()))
            counts.unlink()

    def _tell(self, to_install: str | None) -> None:
        """Print the last line, which counts both halves as pytest does."""
        skipped = self._counts[WITHOUT_RABBITMQ]
        if to_install and skipped:
            print(
                f"{skipped} broker tests did NOT run, for want of RabbitMQ."
                f" They run after: {to_install}; or with RABBITMQ_URL set."
            )
        seconds = time.monotonic() - self._began
        print(summary(self._counts, seconds), flush=True)


def loads(markexpr: str) -> bool:
    """Tell whether a `-m` selects tests that load or break the machine."""
    return "not load" not in markexpr


def summary(counts: Mapping[str, int], seconds: float) -> str:
    """Return a last line like pytest's for these numbers of tests."""
    parts = []
    for name, plural in CATEGORIES.items():
        if count := counts[name]:
            parts.append(f"{count} {name if count == 1 else plural}")
    text = ", ".join(parts) or "no tests ran"
    return f" {text} in {seconds:.2f}s ".center(WIDTH, "=")

"""Smoke test of `make run`: it answers, fires, stops, and loses nothing.

It runs in a copy of this directory without an environment, so that `make run`
installs all that it needs.

usage: python -m tests.smoke.standalone

`make run` is started three times on one data directory. Timers wait across a
TERM, and across a SIGKILL of all its processes at once.
"""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from deploy.local.postgres import Postgres
from tests.smoke.client import Api, fail, say
from tests.support.ports import free_port
from tests.support.processes import is_gone
from tests.support.receiver import Receiver
from tests.support.service import ROOT
from tests.support.waiting import eventually

TIMERS = 20
#: Seconds that a start may take, and that a stop may.
START, STOP = 240.0, 30.0


class MakeRun:
    """`make run` with a port and a data directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.tree = directory / "copy"
        shutil.copytree(
            ROOT, self.tree,
            ignore=shutil.ignore_patterns(".git", ".venv", ".data", "*_cache"),
        )
        self.api = Api(port := free_port())
        self.log = directory / "output"
        self._env = {
            key: value
            for key, value in os.environ.items()
            if key not in {"DATABASE_URL", "RABBITMQ_URL", "MAKEFLAGS"}
            and not key.startswith("MAKELEVEL")
        } | {"PORT": str(port), "DATA_DIR": str(directory / "data")}

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as log:
            self._make = subprocess.Popen(
                ["make", "run"], cwd=self.tree, env=self._env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        eventually(self._is_ready, within=START, every=0.1)

    def _is_ready(self) -> bool:
        if self._make.poll() is not None:
            fail(f"`make run` ended with {self._make.returncode}")
        return self.api.is_ready()

    def stop(self) -> None:
        """Send one TERM to `make`, and see every process end."""
        tree = self._processes()
        self._make.send_signal(signal.SIGTERM)
        self._make.wait(STOP)
        _see_end(tree, STOP)

    def kill(self) -> None:
        """SIGKILL every process at once."""
        tree = self._processes()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._make.wait()
        _see_end(tree, 10)

    def clean_up(self) -> None:
        """Kill what runs, and delete the database's files."""
        if self._make.poll() is None:
            self.kill()

    def _processes(self) -> list[psutil.Process]:
        make = psutil.Process(self._make.pid)
        return [make, *make.children(recursive=True)]


def _see_end(processes: Iterable[psutil.Process], within: float) -> None:
    _, left = psutil.wait_procs(processes, timeout=within)
    left = [each for each in left if not is_gone(each)]
    if left:
        fail(f"still running {within:g} s later: {left}")


def check_calls(receiver: Receiver, timers: list[str], when: str) -> None:
    """Wait until each timer was called, and see that none was twice."""
    try:
        eventually(lambda: set(timers) <= set(receiver.counts()), within=30)
    except AssertionError:
        lost = set(timers) - set(receiver.counts())
        fail(f"{len(lost)} of {len(timers)} timers were not called {when}")
    late = max(call.late for call in receiver.calls if call.timer in timers)
    say(f"{len(timers)} timers called {when}, at most {late:.3f} s late")


def check(service: MakeRun, receiver: Receiver) -> None:
    """Run the smoke test."""
    service.start()
    say("`make run` answers")
    timers = [service.api.set_timer(1, receiver.url())]
    check_calls(receiver, timers, "while it runs")
    for end, name in ((service.stop, "TERM"), (service.kill, "SIGKILL")):
        pending = [
            service.api.set_timer(seconds, receiver.url())
            for seconds in (2, 12) for _ in range(TIMERS // 2)
        ]
        due = time.monotonic() + 2
        end()
        say(f"every process ended after {name}")
        time.sleep(max(0.0, due - time.monotonic()))
        service.start()
        say("it answers again")
        check_calls(receiver, pending, f"after {name} and a start")
        timers += pending
    service.stop()
    if receiver.counts() != dict.fromkeys(timers, 1):
        fail(f"not each timer was called once: {receiver.counts()}")


def main() -> None:
    """Run the smoke test; show the service's output if it fails."""
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="timer-smoke-") as name:
        service = MakeRun(Path(name))
        try:
            check(service, receiver)
        except BaseException:
            print(service.log.read_text(errors="replace"))
            raise
        finally:
            service.clean_up()
            Postgres(Path(name) / "data", {}).remove()
    receiver.close()
    say(f"Python {platform.python_version()}: the smoke test passed")


if __name__ == "__main__":
    main()

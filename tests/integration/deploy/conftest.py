"""Running a supervisor as what it is: a process that may be killed."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.processes import is_gone
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], float], None]:
    """Poll a condition; fail when it doesn't come true in time."""

    def wait(condition: Callable[[], object], seconds: float) -> None:
        eventually(condition, within=seconds)

    return wait


@pytest.fixture
def all_gone(
    wait_until: Callable[[Callable[[], object], float], None],
) -> Callable[[list[psutil.Process], float], None]:
    """Wait until none of the processes runs."""

    def wait(processes: list[psutil.Process], seconds: float) -> None:
        wait_until(lambda: all(map(is_gone, processes)), seconds)

    return wait


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Kill what a test started, with its descendants, when it ends."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            head = psutil.Process(process.pid)
            for member in [*head.children(recursive=True), head]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        process.wait()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], list[str]]:
    """Return the command of a supervisor of the services listed.

    Each is `stand_in(name, body)`: a Python program, which may use `note()`
    to write a line to the file `notes`. The supervisor adds the line "all run"
    once its tether knows all of them.
    """

    def write(listed: str) -> list[str]:
        path = tmp_path / "supervisor.py"
        path.write_text(PROGRAM.format(
            root=str(ROOT), notes=str(tmp_path / "notes"), listed=listed
        ))
        return [sys.executable, str(path)]

    return write


@pytest.fixture
def supervise(
    tmp_path: Path,
    program: Callable[[str], list[str]],
    processes: list[subprocess.Popen[bytes]],
) -> Callable[[str], subprocess.Popen[bytes]]:
    """Start a supervisor of the services listed, in a session of its own."""

    def start(listed: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "output").open("wb") as log:
            process = subprocess.Popen(
                program(listed), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )
        processes.append(process)
        return process

    return start


PROGRAM = '''
import contextlib, os, sys
sys.path.insert(0, {root!r})
from deploy.local.output import to_terminal
from deploy.local.processes import APPLICATION, SERVER, Service
from deploy.local.supervisor import Stopping, Supervisor

STAND_IN = """
import os, signal, sys, time
def note(text):
    with open({notes!r}, "a") as file:
        file.write(text + "\\\\n")
def on_term(number, frame):
    note(f"{{name}} {{signal.Signals(number).name}}")
    sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
signal.signal(signal.SIGINT, on_term)
note(f"{{name}} started {{os.getpid()}}")
{{body}}
while True:
    time.sleep(60)
"""

def stand_in(name, body="", stage=APPLICATION, **options):
    code = STAND_IN.replace("{{name}}", name).replace("{{body}}", body)
    return Service(
        name, [sys.executable, "-c", code], os.environ, stage, **options
    )

with contextlib.suppress(Stopping), Supervisor(
    to_terminal(as_json=False)
) as supervisor:
    for service in [{listed}]:
        supervisor.start(service)
    with open({notes!r}, "a") as file:
        file.write("all run\\n")
    supervisor.watch()
'''

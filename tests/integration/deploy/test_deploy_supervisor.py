"""The supervisor, with stand-ins for the services."""

import contextlib
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

Supervise = Callable[[str], subprocess.Popen[bytes]]
WaitUntil = Callable[[Callable[[], object], float], None]
AllGone = Callable[[list[psutil.Process], float], None]

STACK = (
    "stand_in('server', stage=SERVER), stand_in('worker'), "
    "stand_in('dispatcher'), stand_in('web')"
)


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[str], list[str]]:
    """Return the lines that stand-ins noted and that hold a text."""
    path = tmp_path / "notes"

    def read(text: str) -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if text in line]

    return read


def test_each_gets_one_signal_servers_last(
    supervise: Supervise, wait_until: WaitUntil,
    notes: Callable[[str], list[str]],
) -> None:
    slow = (
        "stand_in('server', stage=SERVER), stand_in('worker', "
        "'old = on_term\\ndef on_term(n, f):\\n time.sleep(1)\\n old(n, f)"
        "\\nsignal.signal(signal.SIGTERM, on_term)'), stand_in('web')"
    )
    process = supervise(slow)
    wait_until(lambda: len(notes("started")) == 3, 20)
    # As `make` and a terminal would both send it.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert notes("SIG") == ["web SIGTERM", "worker SIGTERM", "server SIGTERM"]


def test_what_dies_is_started_again(
    supervise: Supervise, wait_until: WaitUntil,
    notes: Callable[[str], list[str]], tmp_path: Path,
) -> None:
    process = supervise(STACK)
    wait_until(lambda: len(notes("started")) == 4, 20)
    for name in ("web", "server"):
        os.kill(int(notes(f"{name} started")[0].split()[-1]), signal.SIGKILL)
    wait_until(lambda: len(notes("web started")) == 2, 20)
    wait_until(lambda: len(notes("server started")) == 2, 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    output = (tmp_path / "output").read_text()
    assert "web was ended by SIGKILL; it starts again in 0.5 s" in output


@pytest.mark.parametrize("code", [0, 3])
def test_what_is_run_once_may_end(
    supervise: Supervise, wait_until: WaitUntil,
    notes: Callable[[str], list[str]], tmp_path: Path, code: int,
) -> None:
    process = supervise(
        f"stand_in('recover', 'sys.exit({code})', once=True), "
        "stand_in('web', 'sys.exit(1)')"
    )
    # The other was started again: the supervisor has gone around.
    wait_until(lambda: len(notes("web started")) >= 2, 20)
    assert len(notes("recover started")) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    output = (tmp_path / "output").read_text()
    assert ("recover ended with 3" in output) == (code == 3)


def test_a_service_that_keeps_dying_is_not_started_all_the_time(
    supervise: Supervise, wait_until: WaitUntil, tmp_path: Path,
) -> None:
    supervise("stand_in('web', 'sys.exit(3)')")
    output = tmp_path / "output"
    wait_until(lambda: "again in 2 s" in output.read_text(), 30)
    lines = [x for x in output.read_text().splitlines() if "ended" in x]
    assert [line.split()[-2] for line in lines] == ["0.5", "1", "2"]
    assert "web ended with 3" in lines[0]


def test_what_ignores_its_signal_is_killed_with_its_children(
    supervise: Supervise, wait_until: WaitUntil, all_gone: AllGone,
    notes: Callable[[str], list[str]], tmp_path: Path,
) -> None:
    body = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
        "note('forked') if os.fork() else None"
    )
    process = supervise(f"stand_in('web', \"{body}\", stop_seconds=1.0)")
    wait_until(lambda: notes("forked"), 20)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    all_gone(tree, 5)
    assert "web is killed: too slow" in (tmp_path / "output").read_text()


@pytest.mark.parametrize("whom", ["supervisor", "its group", "everything"])
def test_children_end_when_the_supervisor_is_killed(
    supervise: Supervise, wait_until: WaitUntil, all_gone: AllGone,
    notes: Callable[[str], list[str]], whom: str,
) -> None:
    fork = "os.fork() or note('forked')"
    process = supervise(f"{STACK}, stand_in('forks', \"{fork}\")")
    wait_until(lambda: len(notes("started")) == 5, 20)
    wait_until(lambda: notes("forked") and notes("all run"), 20)
    tree = psutil.Process(process.pid).children(recursive=True)
    assert len(tree) == 7   # the tether among them
    if whom == "its group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    if whom == "everything":
        for child in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    all_gone(tree, 10)
    if whom != "everything":
        assert notes("SIG")[-1] == "server SIGTERM"


def is_tether(process: psutil.Process) -> bool:
    """Tell whether a process is a tether that runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and "tether.py" in " ".join(process.cmdline())
        )
    return False


def test_a_tether_that_was_killed_is_replaced(
    supervise: Supervise, wait_until: WaitUntil, all_gone: AllGone,
    notes: Callable[[str], list[str]],
) -> None:
    process = supervise(STACK)
    wait_until(lambda: len(notes("started")) == 4, 20)
    head = psutil.Process(process.pid)

    def tethers() -> list[psutil.Process]:
        return [child for child in head.children() if is_tether(child)]

    [old] = tethers()
    old.kill()
    wait_until(lambda: tethers() not in ([], [old]), 10)
    tree = head.children(recursive=True)
    wait_until(lambda: tethers()[0].num_threads() == 1, 10)
    process.kill()
    all_gone(tree, 10)


def test_a_terminals_ctrl_c_reaches_the_supervisor_alone(
    program: Callable[[str], list[str]], wait_until: WaitUntil,
    notes: Callable[[str], list[str]],
) -> None:
    command = program(STACK)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    wait_until(lambda: len(notes("started")) >= 4, 20)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert sorted(notes("SIG")) == sorted(
        f"{name} SIGTERM" for name in ("web", "dispatcher", "worker", "server")
    )

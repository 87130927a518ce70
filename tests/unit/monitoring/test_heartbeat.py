"""Heartbeats: who is alive, who is not well, and who is gone."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from apps.monitoring import heartbeat
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path / "heartbeats"


def ask(role: str) -> "subprocess.CompletedProcess[str]":
    """Run the health command as a container does."""
    return subprocess.run(
        [sys.executable, "-m", "apps.monitoring.heartbeat", role],
        cwd=ROOT, env=os.environ, capture_output=True, text=True,
        timeout=30, check=False,
    )


def gone() -> int:
    """Return the id of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_who_beats_is_well(beats: Path) -> None:
    assert heartbeat.illness("worker") == "no worker runs here"
    heartbeat.beat("worker")
    assert heartbeat.illness("worker") is None
    assert heartbeat.illness("dispatcher") == "no dispatcher runs here"
    assert beats.stat().st_mode & 0o777 == 0o700


def test_who_has_not_beaten_for_long_is_ill(beats: Path) -> None:
    heartbeat.beat("worker")
    past = time.time() - heartbeat.STALE_AFTER - 5
    os.utime(beats / f"worker.{os.getpid()}", (past, past))
    assert heartbeat.illness("worker") == (
        f"worker {os.getpid()} was last heard of 20 s ago"
    )

    # And one that is ill is enough, beside another that is well
    other = beats / f"worker.{os.getppid()}"
    other.touch()
    assert heartbeat.illness("worker") is not None


def test_who_is_gone_is_forgotten(beats: Path) -> None:
    heartbeat.beat("worker")
    left = beats / f"worker.{gone()}"
    left.touch()
    os.utime(left, (0, 0))
    assert heartbeat.illness("worker") is None
    assert not left.exists()


def test_a_thread_keeps_beating_until_it_is_stopped(
    beats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    stopping = threading.Event()
    heartbeat.keep_beating("worker", stopping)
    path = beats / f"worker.{os.getpid()}"
    eventually(path.exists)
    os.utime(path, (0, 0))
    eventually(lambda: path.stat().st_mtime > 0)
    stopping.set()


def test_the_command_says_what_is_wrong() -> None:
    heartbeat.beat("worker")
    assert ask("worker").returncode == 0
    ill = ask("dispatcher")
    assert (ill.returncode, ill.stderr) == (1, "no dispatcher runs here\n")
    assert "usage" in ask("web").stderr


def test_without_a_data_directory_each_user_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DATA_DIR")
    assert str(os.getuid()) in heartbeat.own_directory().name

"""Heartbeats that can't be written, or must not be: told, and lived with."""

import errno
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.core.outages import Outage
from apps.monitoring import heartbeat
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    monkeypatch.setattr(
        heartbeat, "_UNWRITTEN", Outage("can't be written", "are written")
    )
    return tmp_path / "data" / "heartbeats"


def ask() -> "subprocess.CompletedProcess[str]":
    """Run the health command as a container does."""
    return subprocess.run(
        [sys.executable, "-m", "apps.monitoring.heartbeat", "worker"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True,
        timeout=30, check=False,
    )


def symbolic_link(beats: Path) -> None:
    elsewhere = beats.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    beats.symlink_to(elsewhere)


def open_to_others(beats: Path) -> None:
    beats.mkdir()
    beats.chmod(0o755)


def writable_for_others(beats: Path) -> None:
    beats.mkdir()
    beats.chmod(0o1777)


def of_somebody_else(beats: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    beats.mkdir(mode=0o700)
    os.chown(beats, 12345, 12345)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (symbolic_link, "is a symbolic link: remove it"),
        (open_to_others, "has mode 0755 and not 0700: chmod it"),
        (writable_for_others, "has mode 0777 and not 0700: chmod it"),
        (of_somebody_else, "belongs to user 12345 and not to 0"),
    ],
)
def test_a_directory_that_is_not_ours_alone_is_refused(
    beats: Path, caplog: pytest.LogCaptureFixture,
    make: Callable[[Path], None], reason: str,
) -> None:
    # Given a directory in which somebody else may write
    beats.parent.mkdir()
    make(beats)

    # When a process beats, Then nothing is written, and that is told once
    for _ in range(3):
        heartbeat.beat("worker")
    assert not list(beats.iterdir())
    (record,) = caplog.records
    assert reason in vars(record)["error"]

    # And what stands there is not believed, but told by the command
    (beats / f"worker.{os.getpid()}").touch()
    found = ask()
    assert found.returncode == 1
    assert reason in found.stderr


def test_a_file_that_is_a_link_is_not_followed(beats: Path) -> None:
    heartbeat.beat("worker")
    path = beats / f"worker.{os.getpid()}"
    other = beats.parent / "other"
    other.write_text("kept")
    path.unlink()
    path.symlink_to(other)
    heartbeat.beat("worker")
    assert other.read_text() == "kept"
    assert "can be read" in (heartbeat.illness("worker") or "")


def below_a_file(beats: Path, patch: pytest.MonkeyPatch) -> None:
    beats.parent.write_text("no directory")


def no_inodes(beats: Path, patch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(os, "open", full)


def read_only(beats: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    patch.setattr(os, "mkdir", refuse)


def no_temporary_directory(beats: Path, patch: pytest.MonkeyPatch) -> None:
    def find_none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    patch.delenv("DATA_DIR")
    patch.setattr(tempfile, "gettempdir", find_none)


@pytest.mark.parametrize(
    "happens", [below_a_file, no_inodes, read_only, no_temporary_directory]
)
def test_what_cannot_be_written_is_told_once_and_written_when_it_can(
    beats: Path, caplog: pytest.LogCaptureFixture,
    happens: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    caplog.set_level("INFO")
    looked: list[int] = []
    stopping = threading.Event()

    def look() -> heartbeat.Sign:
        looked.append(1)
        return heartbeat.Sign()

    # Given a process that beats, and a disk that takes nothing
    with pytest.MonkeyPatch.context() as patch:
        happens(beats, patch)
        heartbeat.keep_beating("worker", stopping, look)
        eventually(lambda: len(looked) > 5)
        assert caplog.messages == ["can't be written"]

    # When it takes something, Then the process is heard of again
    if beats.parent.is_file():
        beats.parent.unlink()
    eventually(lambda: heartbeat.illness("worker") is None)
    stopping.set()
    eventually(lambda: caplog.messages[1:] == ["are written"])


def test_on_a_full_disk_a_process_is_heard_of_all_the_same(
    beats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat.beat("worker")
    path = beats / f"worker.{os.getpid()}"
    os.utime(path, (0, 0))

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    heartbeat.beat("worker", heartbeat.Sign(1.0, "taking over: Broken"))
    assert heartbeat.illness("worker") is None


def test_the_command_says_what_keeps_a_process_from_its_work() -> None:
    # Given one that did all of its work a moment ago, and what ails it
    trouble = "taking over: NumericValueOutOfRange: smallint out of range"
    heartbeat.beat("worker", heartbeat.Sign(3.0, trouble))
    assert heartbeat.illness("worker") is None

    # When that lasts, Then the command says so
    expected = f"worker {os.getpid()} last worked well 20 s ago: {trouble}\n"

    def is_said() -> bool:
        heartbeat.beat("worker", heartbeat.Sign(20.0, trouble))
        found = ask()
        assert found.returncode == 1
        return found.stderr == expected

    # To start the command may take a second, on a busy machine.
    eventually(is_said, within=2)

    # When it is over, Then so is that
    heartbeat.beat("worker")
    assert ask().returncode == 0


def test_health_tells_what_lasts() -> None:
    health = heartbeat.Health()
    health.bad("RabbitMQ can't be reached")
    assert health.sign().trouble is None
    assert health.sign(["a row"]).trouble == "a row"
    health._good_at -= 20
    assert health.sign(["a row"]).trouble == (
        "RabbitMQ can't be reached; a row"
    )
    assert 20 <= health.sign().age < 30
    health.good()
    assert health.sign().trouble is None
    assert health.sign().age < 10

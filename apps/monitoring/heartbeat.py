"""Heartbeats: how a process without a port shows that it does its work.

Each process keeps a file of its own. The file's time says when the process
last worked well, its text what is wrong since. `python -m
apps.monitoring.heartbeat worker` exits with 0 when all of a role's processes
here are well, else with 1 and a sentence. It does not load Django, so that a
container can ask often.
"""

import contextlib
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from apps.core.outages import Outage

#: A process is unwell when it last worked well this long ago, in seconds.
STALE_AFTER = 15.0
INTERVAL = 3.0

_MOST_TEXT = 4096  # bytes

_UNWRITTEN = Outage(
    "heartbeats can't be written, so that the health command takes this"
    " process for dead; its work goes on",
    "heartbeats are written again",
)


@dataclass(frozen=True, slots=True)
class Sign:
    """How a process is.

    age      seconds since it last worked well
    trouble  what is wrong, as far as it knows; None if nothing is
    """

    age: float = 0.0
    trouble: str | None = None


class Health:
    """When a process last worked well, and what keeps it from that since."""

    def __init__(self) -> None:
        self._good_at = time.monotonic()
        self._troubles: tuple[str, ...] = ()

    def good(self) -> None:
        """Note that the work was done."""
        self._good_at, self._troubles = time.monotonic(), ()

    def bad(self, *troubles: str) -> None:
        """Note that the work was not done, and why."""
        self._troubles = troubles

    def sign(self, also: Iterable[str] = ()) -> Sign:
        """Return how the process is now; `also` adds further troubles.

        What keeps it from its work only for a moment is no trouble yet.
        """
        age = time.monotonic() - self._good_at
        lasting = self._troubles if age > STALE_AFTER / 2 else ()
        return Sign(age, "; ".join(sorted({*lasting, *also})) or None)


def own_directory() -> Path:
    """Return the directory of this user's heartbeats, per data directory."""
    given = os.environ.get("DATA_DIR", "").strip()
    if given:
        return Path(given) / "heartbeats"
    return Path(tempfile.gettempdir()) / f"timer-service-{os.getuid()}"


@contextlib.contextmanager
def opened_directory(directory: Path) -> Iterator[int]:
    """Open the directory; OSError unless it is ours, and ours alone.

    In another account's directory, a dead process could look well, or our
    files could be written elsewhere.
    """
    if directory.is_symlink():
        raise PermissionError(f"{directory} is a symbolic link: remove it")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(directory, flags)
    try:
        found = os.fstat(opened)
        mode = stat.S_IMODE(found.st_mode) & 0o777
        if found.st_uid != os.geteuid():
            raise PermissionError(
                f"{directory} belongs to user {found.st_uid} and not to"
                f" {os.geteuid()}: remove it, or set another DATA_DIR"
            )
        if mode != 0o700:
            raise PermissionError(
                f"{directory} has mode {mode:04o} and not 0700: chmod it if"
                " nobody else wrote there, else remove it"
            )
        yield opened
    finally:
        os.close(opened)


def beat(role: str, sign: Sign = Sign()) -> None:
    """Note how this process is; never raises, whatever the disk says."""
    try:
        directory = own_directory()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with opened_directory(directory) as opened:
            _write(opened, f"{role}.{os.getpid()}", sign)
    except OSError as error:
        _UNWRITTEN.failed(error=str(error))
    else:
        _UNWRITTEN.worked()


def _write(directory: int, name: str, sign: Sign) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        os.ftruncate(file, 0)
        if sign.trouble:
            os.write(file, sign.trouble.encode(errors="replace")[:_MOST_TEXT])
    finally:
        # Also on a full disk. It comes last: a write changes the time.
        good_at = time.time() - sign.age
        os.utime(file, (good_at, good_at))
        os.close(file)


def keep_beating(
    role: str,
    stopping: threading.Event,
    look: Callable[[], Sign] = Sign,
) -> None:
    """Note what `look` returns every few seconds, until `stopping`."""

    def run() -> None:
        while not stopping.is_set():
            beat(role, look())
            stopping.wait(INTERVAL)

    threading.Thread(target=run, name="heartbeat", daemon=True).start()


def illness(role: str) -> str | None:
    """Return what is wrong with a role's processes here; None if nothing.

    Files of processes that are gone are removed on the way.
    """
    try:
        directory = own_directory()
        if not os.path.lexists(directory):
            return f"no {role} runs here{_why_not(directory)}"
        with opened_directory(directory) as opened:
            found = [
                _look(opened, role, pid) for pid in _pids(opened, role)
            ]
    except OSError as error:
        return f"no heartbeat of a {role} can be read: {error}"
    alive = [each for each in found if each is not None]
    if not alive:
        return f"no {role} runs here{_why_not(directory)}"
    return "; ".join(filter(None, alive)) or None


def _pids(directory: int, role: str) -> list[int]:
    """Return the processes of a role that have a file."""
    split = [name.partition(".") for name in os.listdir(directory)]
    return sorted(
        int(pid) for of, _, pid in split if of == role and pid.isdecimal()
    )


def _look(directory: int, role: str, pid: int) -> str | None:
    """Return what is wrong with a process, "" if nothing, None if gone."""
    name = f"{role}.{pid}"
    if not _runs(pid):
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        return None
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        age = time.time() - os.fstat(file).st_mtime
        trouble = os.read(file, _MOST_TEXT).decode(errors="replace")
    finally:
        os.close(file)
    if age <= STALE_AFTER:
        return ""
    if trouble:
        return f"{role} {pid} last worked well {age:.0f} s ago: {trouble}"
    return f"{role} {pid} was last heard of {age:.0f} s ago"


def _why_not(directory: Path) -> str:
    """Return why a process that runs might have written nothing."""
    while not directory.exists():
        directory = directory.parent
    if os.access(directory, os.W_OK | os.X_OK):
        return ""
    return f", or it can't say so: {directory} can't be written to"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in {"worker", "dispatcher"}:
        sys.exit("usage: python -m apps.monitoring.heartbeat"
                 " worker|dispatcher")
    sys.exit(illness(sys.argv[1]))

"""The numbers of a process, and those of its siblings.

The processes of one server (Granian's or Dramatiq's) share a port, so
whichever is asked answers for all of them. Each keeps its numbers in a file
that is mapped into its memory: a number that was counted is there also after
a SIGKILL. The next process takes such a file and goes on counting, so that
no sum ever falls. docs/decisions/0032-metrics.md has the reasons.
"""

import contextlib
import fcntl
import itertools
import mmap
import multiprocessing
import os
import threading
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apps.monitoring import heartbeat

#: How old a process's sign of life may be for its gauges to count, in
#: seconds. It gives one every `sampling.INTERVAL` seconds.
_ALIVE = 15.0
#: The place of that sign, a time of `time.monotonic()`. All processes of a
#: machine have the same clock.
_SIGN = 0
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Share:
    """The numbers of one process, each at its place."""

    values: Sequence[float]
    is_alive: bool = True


class Numbers:
    """Numbers at places that are reserved when the program is loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: array[float] | memoryview[float] = array("d")
        self._layout = 0
        self._prefix = ""
        self._file = -1
        self.reserve("sign of life", 1)

    def reserve(self, name: str, count: int) -> int:
        """Return the first of `count` new places; before share() only."""
        assert isinstance(self._values, array)
        first = len(self._values)
        self._values.extend([0.0] * count)
        self._layout = zlib.crc32(f"{name} {count}".encode(), self._layout)
        return first

    def add(self, place: int, amount: float) -> None:
        """Add to a number."""
        with self._lock:
            self._values[place] += amount

    def observe(self, place: int, total: int, value: float) -> None:
        """Add 1 at a place, and the value to the total."""
        with self._lock:
            self._values[place] += 1
            self._values[total] += value

    def set(self, place: int, value: float) -> None:
        """Set a number."""
        self._values[place] = value

    def give_sign(self) -> None:
        """Note that this process is alive."""
        self.set(_SIGN, time.monotonic())

    def share(self, role: str) -> int:
        """Count in a file from now on; return the file's number, from 0.

        Of the processes of a server that live, each has a number of its own.
        Raises OSError; then the numbers stay in memory.
        """
        parent = multiprocessing.parent_process()
        server = os.getpid() if parent is None else parent.pid
        self._prefix = f"metrics.{role}-{server}-{self._layout:08x}."
        path = heartbeat.own_directory()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with heartbeat.opened_directory(path) as opened, _locked(opened):
            _remove_left(opened, self._prefix)
            for number in itertools.count():
                file = _taken(opened, f"{self._prefix}{number}")
                if file is not None:
                    self._map(file)
                    return number
        raise AssertionError

    def read(self) -> list[Share]:
        """Return the numbers of this process and of its siblings.

        Those of the dead are among them. Raises OSError.
        """
        if self._file < 0:
            return [Share(list(self._values))]
        path = heartbeat.own_directory()
        with heartbeat.opened_directory(path) as opened, _locked(opened):
            return [
                self._share(_content(opened, name))
                for name in os.listdir(opened)
                if name.startswith(self._prefix)
            ]

    def _map(self, file: int) -> None:
        """Go on with the numbers in a file; add those counted before."""
        size = 8 * len(self._values)
        try:
            if os.fstat(file).st_size != size:
                # Written, not only made longer: on a full disk that is an
                # error here, and not the end of the process later.
                os.ftruncate(file, 0)
                os.pwrite(file, bytes(size), 0)
                os.fsync(file)
            values = memoryview(mmap.mmap(file, size)).cast("d")
        except BaseException:
            os.close(file)
            raise
        with self._lock:
            for place, value in enumerate(self._values):
                values[place] += value
            self._values, self._file = values, file
        self.give_sign()

    def _share(self, content: bytes) -> Share:
        values = array("d", content)
        age = time.monotonic() - values[_SIGN]
        return Share(values, 0 <= age <= _ALIVE)


@contextlib.contextmanager
def _locked(directory: int) -> Iterator[None]:
    """Let no other process take or remove a file."""
    file = os.open("metrics-lock", _FLAGS, 0o600, dir_fd=directory)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _taken(directory: int, name: str) -> int | None:
    """Open a file and lock it for as long as this process lives.

    None if another process has it.
    """
    file = os.open(name, _FLAGS, 0o600, dir_fd=directory)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _remove_left(directory: int, own: str) -> None:
    """Remove the files of servers that have ended."""
    for name in os.listdir(directory):
        if name.startswith("metrics.") and not name.startswith(own):
            file = _taken(directory, name)
            if file is not None:
                os.unlink(name, dir_fd=directory)
                os.close(file)


def _content(directory: int, name: str) -> bytes:
    file = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
    )
    try:
        return os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)


NUMBERS = Numbers()

"""A service as data, its process, and the tether that outlives us."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from deploy.local import tether
from deploy.local.output import Output

# Servers outlive the processes that write to them.
APPLICATION, SERVER = 0, 1

# An environment variable that every child has, and that nobody else has. It
# names the child's data directory, so a later start finds what an earlier one
# left running.
MARK = "TIMER_SERVICE_CHILD_OF"


class LocalError(Exception):
    """What stops us, as a sentence for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that a server runs as when we are root."""

    uid: int
    gid: int


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Service:
    """A command to run, to keep running, and to stop.

    `prepare` is called before each start. Output goes to the file `log`, or
    is forwarded line by line if there is none. `stop_seconds` after its
    `stop_signal` the process group is killed. A service that is run `once`
    may end: it is not started again.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    stage: int = APPLICATION
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 30.0
    log: Path | None = None
    account: Account | None = None
    directory: Path | None = None
    once: bool = False
    prepare: Callable[[], None] = _nothing


class Child:
    """A running service, the head of a process group of its own."""

    def __init__(self, service: Service, output: Output) -> None:
        service.prepare()
        self.service = service
        self.started = time.monotonic()
        account = service.account
        with _sink(service.log) as sink:
            self.process = subprocess.Popen(
                service.command,
                env=dict(service.env),
                cwd=service.directory,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                process_group=0,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        self._reader = None
        if self.process.stdout:
            source = cast(BinaryIO, self.process.stdout)
            self._reader = output.follow(service.name, source)

    @property
    def pid(self) -> int:
        """The process id, which is the id of the process group as well."""
        return self.process.pid

    def has_ended(self) -> bool:
        """Tell whether the head of the group has ended."""
        return self.process.poll() is not None

    def outcome(self) -> str:
        """Say how it ended, and the last lines of its log file."""
        code = self.process.returncode
        how = f"ended with {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        return f"{self.service.name} {how}{tail(self.service.log)}"

    def ask_to_stop(self) -> None:
        """Send the stop signal once, to the head of the group alone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(self.service.stop_signal)

    def wait(self, seconds: float) -> bool:
        """Wait for the head of the group; False when `seconds` pass."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(seconds, 0.0))
        return self.has_ended()

    def finish(self) -> None:
        """Kill what is left of the group, and forward its last lines."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        if self._reader:
            self._reader.join(1.0)


class Tether:
    """Our side of deploy/local/tether.py: it ends `children` after us.

    The process inherits the descriptors `kept`. So the lock on the data
    directory stays taken until its work is done.
    """

    def __init__(self, kept: Sequence[int] = ()) -> None:
        reading, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", tether.__file__, str(reading)],
            pass_fds=(reading, *kept),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading)

    def is_alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.poll() is None

    def hold(self, child: Child) -> None:
        """End `child` when we are gone."""
        service = child.service
        self._tell(f"+ {child.pid} {service.stop_signal:d} {service.stage}")

    def hold_pid(self, pid: int) -> None:
        """End the single process `pid` when we are gone."""
        self._tell(f"+ {pid} {signal.SIGINT:d} {APPLICATION}")

    def release(self, pid: int) -> None:
        """Forget a process that has ended, before its id is used again."""
        self._tell(f"- {pid}")

    def close(self) -> None:
        """End the process; it ends what it still holds."""
        os.close(self._pipe)
        self._process.wait()

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, line.encode() + b"\n")


@contextlib.contextmanager
def _sink(log: Path | None) -> Iterator[int | BinaryIO]:
    if log is None:
        yield subprocess.PIPE
    else:
        with open_log(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
            yield file


def open_log(log: Path, flags: int) -> BinaryIO:
    """Open a log file; only its owner can read one that is made.

    LocalError if another account owns the directory, or if the file is a
    link: through it we could be made to write to, or show, any file of ours.
    OSError for other faults.
    """
    directory = os.open(log.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        check_ours(os.fstat(directory), log.parent)
        flags |= os.O_NOFOLLOW
        file = os.open(log.name, flags, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise LocalError(f"{log} is a link: remove it") from None
        raise
    finally:
        os.close(directory)
    return open(file, "ab" if flags & os.O_APPEND else "rb")


def check_ours(found: os.stat_result, directory: Path) -> None:
    """Raise LocalError if `found` says that a directory is not our own."""
    if found.st_uid != os.geteuid():
        raise LocalError(
            f"{directory} belongs to another account (user id "
            f"{found.st_uid}): run as that one, or set another DATA_DIR"
        )


def tail(log: Path | None, lines: int = 15) -> str:
    """Return the end of a log file, indented; nothing when there is none."""
    if log is None:
        return ""
    try:
        with open_log(log, os.O_RDONLY) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - 20_000, 0))
            text = file.read().decode(errors="replace")
    except (LocalError, OSError):
        return ""
    end = text.splitlines()[-lines:]
    return f"\n{log}:" + "".join(f"\n  {line}" for line in end)

"""The data directory: its lock, its secrets, and what others left in it."""

import contextlib
import fcntl
import hashlib
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from deploy.local.processes import MARK, LocalError, check_ours

# Below the ranges of outgoing ports, which begin at 32768 (Linux) and 49152
# (macOS). In such a range a client that keeps trying a closed port can connect
# to itself, and then the server can't have the port back.
PORTS = range(20_000, 30_000)

# Seconds that the tether of a killed supervisor may take to end its children.
LEFT_BEHIND = 15.0


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Lock `directory` for us alone; yield the lock's file descriptor.

    The tether of a killed supervisor holds the lock for a while; this waits
    for it. LocalError if a living supervisor holds the lock, or if
    `directory` is another account's.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_ours(directory.stat(), directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        file = os.open(directory / "lock", flags, 0o600)
    except OSError as error:
        raise LocalError(f"DATA_DIR can't be used: {error}") from error
    try:
        _lock(file, directory)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield file
    finally:
        os.close(file)


def _lock(file: int, directory: Path) -> None:
    deadline = time.monotonic() + LEFT_BEHIND
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        owner = os.pread(file, 20, 0).decode()
        alive = owner.isdigit() and psutil.pid_exists(int(owner))
        if alive and psutil.Process(int(owner)).status() == "zombie":
            alive = False
        if alive or time.monotonic() > deadline:
            raise LocalError(
                f"the data in {directory} is in use by process {owner}. Stop "
                "it, or set another DATA_DIR (and PORT)."
            )
        time.sleep(0.1)


def end_leftovers(directory: Path) -> None:
    """Kill what an earlier supervisor of `directory` left running.

    Something is left only if its tether was killed as well. This spares
    PostgreSQL: deploy/local/postgres.py stops that with more care.
    """
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get(MARK) == str(directory)
            if ours and process.name() != "postgres":
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=5.0)


def secret(
    path: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(48)
) -> str:
    """Return the secret kept in `path`; make it if there is none."""
    with contextlib.suppress(FileNotFoundError):
        if kept := path.read_text().strip():
            return kept
    made = make()
    write_private(path, made + "\n")
    return made


def write_private(path: Path, text: str) -> None:
    """Replace `path` whole or not at all; only its owner can read it."""
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with open(os.open(new, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def kept_port(path: Path) -> int:
    """Return the port kept in `path`; a new one if that is not free."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if can_bind(port := int(path.read_text())):
            return port
    (port,) = free_ports(1)
    write_private(path, f"{port}\n")
    return port


def token(path: Path) -> str:
    """Return a short name for `path`, the same each time."""
    return hashlib.sha256(bytes(path)).hexdigest()[:12]


def can_bind(port: int) -> bool:
    """Tell whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 that nobody listens on."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if can_bind(port):
            found.append(port)
        if len(found) == count:
            return found
    raise LocalError("no free port is left on 127.0.0.1")

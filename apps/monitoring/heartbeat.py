"""Heartbeats: how a process without a port shows that it is alive.

Each process touches a file of its own every few seconds; the health
command looks at their age. `python -m apps.monitoring.heartbeat worker`
exits with 0 when all of a role's processes are alive, else with 1 and a
sentence; it does not load Django, so that a container can ask often.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

#: A process that has not been heard of for so many seconds is not well.
STALE_AFTER = 15.0
INTERVAL = 3.0


def _directory() -> Path:
    """Return the directory of this user's heartbeats, per data directory."""
    given = os.environ.get("DATA_DIR", "").strip()
    if given:
        return Path(given) / "heartbeats"
    return Path(tempfile.gettempdir()) / f"timer-service-{os.getuid()}"


def beat(role: str) -> None:
    """Note that this process is alive."""
    path = _directory() / f"{role}.{os.getpid()}"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch()


def keep_beating(role: str, stopping: threading.Event) -> None:
    """Note it every few seconds, on a thread, until `stopping`."""

    def run() -> None:
        while not stopping.is_set():
            beat(role)
            stopping.wait(INTERVAL)

    threading.Thread(target=run, name="heartbeat", daemon=True).start()


def illness(role: str) -> str | None:
    """Return what is wrong with a role's processes here; None if nothing.

    Files of processes that are gone are removed on the way.
    """
    alive = 0
    for path in sorted(_directory().glob(f"{role}.*")):
        pid = int(path.suffix[1:])
        if not _runs(pid):
            path.unlink(missing_ok=True)
            continue
        alive += 1
        age = time.time() - path.stat().st_mtime
        if age > STALE_AFTER:
            return f"{role} {pid} was last heard of {age:.0f} s ago"
    return None if alive else f"no {role} runs here"


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

"""Ends a supervisor's children when the supervisor is gone.

usage: tether.py FD

FD is the reading end of a pipe. Only the supervisor can write to it, so its
end of file means that the supervisor has ended, for whatever reason. The
supervisor writes ``+ PID SIGNAL STAGE`` for a child it starts and ``- PID``
for one that ended. This process is in a session of its own: signals to the
supervisor's process group do not reach it.

It is run as a file, and uses only the standard library.
"""

import contextlib
import os
import signal
import sys
import time

# Seconds for a stage's children to end by themselves before they are killed.
GRACE = 3.0


def is_running(pid: int) -> bool:
    """Tell whether `pid` runs; a zombie that init never reaps does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in b"ZX"
    except OSError:
        return True


def end(children: dict[int, int]) -> None:
    """Send each child (pid to signal) its signal; kill all after GRACE.

    Only the head of a process group gets the signal: Dramatiq's master hands
    it on, and a second one would kill its workers. What is left of a group
    whose head has ended is killed.
    """
    for pid, number in children.items():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    deadline = time.monotonic() + GRACE
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def main(descriptor: int) -> None:
    """Follow the supervisor, then end what it has left, stage by stage."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    stages: dict[int, dict[int, int]] = {}
    with open(descriptor) as lines:
        for line in lines:
            word, pid, *rest = line.split()
            if word == "+":
                number, stage = map(int, rest)
                stages.setdefault(stage, {})[int(pid)] = number
            else:
                for children in stages.values():
                    children.pop(int(pid), None)
    for stage in sorted(stages):
        end(stages[stage])


if __name__ == "__main__":
    main(int(sys.argv[1]))

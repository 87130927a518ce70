"""What processes have used of the machine, from the system's counters."""

from collections.abc import Iterable, Mapping

import psutil  # type: ignore[import-untyped]

#: The processes of each part of a service, by the part's name.
Parts = Mapping[str, Iterable[int]]


def tree(pid: int) -> list[int]:
    """Return a process and all of its descendants; none if it has ended."""
    try:
        head = psutil.Process(pid)
        return [pid, *(child.pid for child in head.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu(pids: Iterable[int]) -> float:
    """Return the CPU seconds of processes, with their ended children's."""
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        # Linux counts waiting for I/O apart: it is none.
        total += times.user + times.system
        total += times.children_user + times.children_system
    return total


def memory(pids: Iterable[int]) -> int:
    """Return the bytes that processes share with nobody."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total


def cpu_of(parts: Parts) -> dict[str, float]:
    """Return the CPU seconds of each part."""
    return {name: cpu(pids) for name, pids in parts.items()}


def used(before: Mapping[str, float], parts: Parts) -> dict[str, float]:
    """Return the CPU seconds of each part since `before`."""
    return {
        name: seconds - before.get(name, 0.0)
        for name, seconds in cpu_of(parts).items()
    }

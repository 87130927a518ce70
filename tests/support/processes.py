"""Processes that a test looks at."""

import contextlib

import psutil  # type: ignore[import-untyped]


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended; its parent may still have to see it.

    Its id may be another process's by now.
    """
    with contextlib.suppress(psutil.Error):
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return is_zombie or not process.is_running()
    return True

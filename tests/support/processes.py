"""Processes that a test looks at."""

import contextlib
from typing import Any

import psutil  # type: ignore[import-untyped]


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended; its parent may still have to see it.

    Its id may be another process's by now.
    """
    with contextlib.suppress(psutil.Error):
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return is_zombie or not process.is_running()
    return True


def listening(pid: int) -> list[Any]:
    """Return the addresses (`ip`, `port`) that a process listens on.

    There are none once it has ended.
    """
    # Only root may look at a process that has ended and was not waited for.
    with contextlib.suppress(psutil.Error):
        return [
            connection.laddr
            for connection in psutil.Process(pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
    return []

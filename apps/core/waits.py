"""Requests that wait for long: they give their place to others first."""

from collections.abc import Callable
from typing import Any

#: The paths of all requests that may wait begin so.
PREFIX = "/inbox/"
#: Requests that wait at once, at most. Each holds a thread.
MOST = 128
#: What stands in WSGI's environment: a function without arguments.
LEAVE = "timer_service.leave"


def leave(environ: dict[str, Any]) -> bool:
    """Give up a request's place; False if too many others wait already.

    From then on the request may wait, and hold up nobody.
    """
    found: Callable[[], bool] | None = environ.get(LEAVE)
    return found is None or found()

"""Ports for servers that a test starts later, and perhaps again."""

import itertools
import os
import random

from deploy.local.data import can_bind

# Below the ports that the system lends to outgoing connections, which may
# take a port between its choice and the server's start; and below those that
# `deploy.local` chooses from. Each of pytest-xdist's processes has its own.
_EACH = 500
_NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 20
_PORTS = range(10_000 + _NUMBER * _EACH, 10_000 + (_NUMBER + 1) * _EACH)
_in_turn = itertools.cycle(random.sample(_PORTS, _EACH))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on.

    No other call returns it, until all have had their turn.
    """
    return next(port for port in _in_turn if can_bind(port))

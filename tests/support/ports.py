"""Ports for servers that a test starts later, and perhaps again."""

import itertools
import os
import random

from deploy.local.data import can_bind

# These ports are below those that the system lends to outgoing connections. A
# connection could take such a port before the server starts. They are below
# those that `deploy.local` chooses from, too. Each process of pytest-xdist has
# ports of its own.
_EACH = 500
#: Browsers refuse this one, since it was once another protocol's.
_REFUSED = 10_080
_NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 20
_PORTS = range(10_000 + _NUMBER * _EACH, 10_000 + (_NUMBER + 1) * _EACH)
_in_turn = itertools.cycle(random.sample(_PORTS, _EACH))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on.

    No other call returns it, until all have had their turn.
    """
    return next(
        port for port in _in_turn if port != _REFUSED and can_bind(port)
    )

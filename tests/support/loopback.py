"""Which loopback addresses this machine has."""

import functools
import socket

import pytest


@functools.cache
def has_ipv6() -> bool:
    """Return whether ::1 can be listened on; many containers have none."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(
    not has_ipv6(), reason="this machine has no ::1"
)

"""Which addresses are this machine's own, public ones included."""

import socket

# For documentation (RFC 5737, RFC 3849), so no machine has them: a socket
# can be bound to them only where it can be bound to any address.
_OF_NOBODY = {
    socket.AF_INET: "203.0.113.113",
    socket.AF_INET6: "2001:db8::1",
}
_DISCARD_PORT = 9  # nothing is sent there; a UDP socket needs some port


def is_own(address: str) -> bool:
    """Tell whether an interface of this machine has this IP address.

    The kernel is asked, and no packet leaves: a socket can be bound to the
    machine's own addresses and to no others. It does not know of addresses
    that a NAT or a load balancer leads here.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if not _can_bind(family, address):
        return False
    if not _can_bind(family, _OF_NOBODY[family]):
        return True
    # net.ipv4.ip_nonlocal_bind lets a socket be bound to any address.
    return _is_its_own_source(family, address)


def _can_bind(family: int, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _is_its_own_source(family: int, address: str) -> bool:
    """Tell whether packets to `address` would come from it as well.

    It is also false for the machine's second IPv4 address in a subnet.
    """
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, _DISCARD_PORT))
        except OSError:
            return False
        return str(probe.getsockname()[0]) == address

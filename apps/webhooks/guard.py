"""Which addresses may be called: public ones, and those that are allowed.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries, and IANA's
IPv6 Address Space (only 2000::/3 is global unicast). The tables stand here
because `ipaddress.is_global` differs between patch releases of Python.
"""

from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays, deprecated
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
            "2001::/23",  # IETF protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, deprecated (RFC 7526)
            "3fff::/20",  # documentation
        ),
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052, how DNS64 writes IPv4
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, deprecated

# They hand out credentials to whoever asks; one of them is public.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, OpenStack and others
            "169.254.170.2",  # AWS ECS
            "169.254.170.23",  # AWS EKS
            "169.254.0.23",  # Tencent
            "169.254.42.42",  # Scaleway
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure's wire server
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # AWS
            "fd00:ec2::23",  # AWS EKS
            "fd20:ce::254",  # Google
            "fd00:42::42",  # Scaleway
            "fd00:c1::a9fe:a9fe",  # Oracle
            "fe80::a9fe:a9fe",  # OpenStack
        ),
    )
)


class AddressRefused(Exception):
    """The address must not be called; the text names it and says why."""


class Guard:
    """Judge addresses, one at a time, right before they are dialled."""

    def __init__(self, allowed_networks: Iterable[Network]) -> None:
        self._allowed = tuple(allowed_networks)

    def check(self, address: str) -> None:
        """Raise AddressRefused unless this IP address may be called.

        It may be if it is a public unicast address or lies in an allowed
        network. An IPv4 address inside an IPv6 one (mapped, compatible,
        NAT64, 6to4, Teredo) must pass by itself as well; a mapped one is
        nothing but its IPv4 address. A cloud metadata address passes only
        if an allowed network names exactly that address.
        """
        try:
            given = ip_address(address)
        except ValueError:
            raise AddressRefused(f"{address!r} is no IP address") from None
        if isinstance(given, IPv6Address) and given.scope_id is not None:
            raise AddressRefused(f"{address} is bound to an interface")
        for judged in (_unmapped(given), *_embedded(given)):
            self._judge(judged)

    def _judge(self, address: Address) -> None:
        allowed = [network for network in self._allowed if address in network]
        if address in _METADATA:
            if not any(net.num_addresses == 1 for net in allowed):
                raise AddressRefused(f"{address} is a cloud metadata address")
        elif not allowed and not _is_public(address):
            raise AddressRefused(f"{address} is not a public address")


def _is_public(address: Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return (
        isinstance(address, IPv4Address)
        or address in _GLOBAL_UNICAST
        or address in _NAT64
    )


def _unmapped(address: Address) -> Address:
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """Give the IPv4 addresses that packets to an IPv6 one would end at."""
    if isinstance(address, IPv4Address):
        return
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo  # its server and its client

"""Which hosts may be called: public ones, and those that are allowed.

It judges a URL's host when a timer is set, so that the user hears of a
refusal. It judges host and addresses when a call is dialled: a public name may
lead anywhere.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries, and IANA's
IPv6 Address Space (only 2000::/3 is global unicast). The tables stand here
because `ipaddress.is_global` differs between patch releases of Python.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from apps.webhooks.machine import is_own
from apps.webhooks.target import is_ip_literal

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
_IPV4_AT_THE_END = (
    _NAT64,
    IPv6Network("64:ff9b:1::/48"),  # RFC 8215, a network's own NAT64
    IPv6Network("::ffff:0:0:0/96"),  # RFC 2765, translated
    IPv6Network("::/96"),  # RFC 4291, compatible, deprecated
)
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

# They give credentials to anybody who asks; one is a public address.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, OpenStack and others
            *("169.254.170.2", "169.254.170.23"),  # AWS ECS, EKS
            *("fd00:ec2::254", "fd00:ec2::23"),  # AWS, its EKS
            "fd20:ce::254",  # Google
            "168.63.129.16",  # Azure's wire server
            *("192.0.0.192", "fd00:c1::a9fe:a9fe"),  # Oracle
            "100.100.100.200",  # Alibaba
            *("169.254.42.42", "fd00:42::42"),  # Scaleway
            "169.254.0.23",  # Tencent
            "fe80::a9fe:a9fe",  # OpenStack
        ),
    )
)
_METADATA_NAME = re.compile(
    r"metadata\.(google\.internal|goog|tencentyun\.com|packet\.net"
    r"|platformequinix\.com)"
    r"|api\.metadata\.cloud\.ibm\.com|instance-data\.ec2\.internal"
)
# Single labels, and names that no public DNS has: RFC 6761's registry (IANA's
# Special-Use Domain Names), RFC 6762, appendix G, names that ICANN reserved or
# will not delegate (internal, corp, home, mail), and clusters' own names.
_PRIVATE_NAME = re.compile(
    r"[^.]+|(.+\.)?(alt|corp|example|home|home\.arpa|internal|intranet|invalid"
    r"|lan|local|localdomain6?|mail|onion|private|svc|test)"
)


class Refused(Exception):
    """The host must not be called; the text names it and says why.

    allowed_by  the network that would have to be allowed
    """

    def __init__(self, reason: str, allowed_by: str = "its network") -> None:
        super().__init__(reason)
        self.allowed_by = allowed_by


class Guard:
    """Judge the hosts of URLs, and the addresses that names lead to."""

    def __init__(self, allowed_networks: Iterable[Network]) -> None:
        self._allowed = tuple(allowed_networks)

    def check_host(self, host: str) -> None:
        """Raise Refused for a Target's host that can't be public.

        An address is judged as by check(). Single labels and names for
        private use need some allowed network. `localhost` needs one with a
        loopback address, a cloud's metadata name one that is exactly a
        metadata address.
        """
        if is_ip_literal(host):
            self.check(host)
            return
        name = host.removesuffix(".")
        if _METADATA_NAME.fullmatch(name):
            if not any(
                network.num_addresses == 1 and network[0] in _METADATA
                for network in self._allowed
            ):
                raise Refused(
                    f"{host} is a cloud metadata service",
                    "its exact address, 169.254.169.254/32",
                )
        elif f".{name}".endswith(".localhost"):
            if not any(
                allowed.overlaps(loopback)
                for allowed in self._allowed
                for loopback in _LOOPBACK
            ):
                raise Refused(f"{host} is the caller itself", "127.0.0.0/8")
        elif _PRIVATE_NAME.fullmatch(name) and not self._allowed:
            raise Refused(f"{host} is not a public name")

    def check(self, address: str) -> None:
        """Raise Refused unless this IP address may be called.

        It may be if it lies in an allowed network, or if it is a public
        unicast address and not one of this machine's own. An IPv4 address
        inside an IPv6 one (mapped, compatible, translated, NAT64, 6to4,
        Teredo, ISATAP) must pass by itself as well; a mapped one is judged
        only as its IPv4 address. A cloud metadata address passes only if an
        allowed network names exactly that address.
        """
        try:
            given = ip_address(address)
        except ValueError:
            raise Refused(f"{address!r} is no IP address") from None
        if isinstance(given, IPv6Address) and given.scope_id is not None:
            raise Refused(f"{address} is bound to an interface")
        for judged in (_unmapped(given), *_embedded(given)):
            self._judge(judged)

    def _judge(self, address: Address) -> None:
        allowed = [network for network in self._allowed if address in network]
        exact = f"{address}/{address.max_prefixlen}"
        if address in _METADATA:
            if not any(net.num_addresses == 1 for net in allowed):
                raise Refused(f"{address} is a cloud metadata address", exact)
        elif not allowed and not _is_public(address):
            raise Refused(f"{address} is not a public address", exact)
        elif not allowed and is_own(str(address)):
            raise Refused(f"{address} is this machine's own address", exact)


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
    """Yield the IPv4 addresses where packets to an IPv6 one would end."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    if number > 1 and (
        any(address in network for network in _IPV4_AT_THE_END)
        # RFC 5214, ISATAP: its interface identifier, in any network.
        or number >> 32 & 0xFDFFFFFF == 0x5EFE
    ):
        yield IPv4Address(number & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo  # its server and its client

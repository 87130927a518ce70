"""Which addresses may be called."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.webhooks.guard import Guard, Refused
from tests.support.inward import METADATA, NOT_PUBLIC


def words(text: str) -> list[str]:
    return text.split()


PUBLIC = words("""
1.1.1.1 8.8.8.8 93.184.216.34 9.255.255.255 11.0.0.0 100.63.255.255
100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0
172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0
192.31.196.1 192.88.98.1 192.175.48.1 198.17.255.255 198.20.0.0 198.51.99.1
198.51.101.1 203.0.112.1 203.0.114.1 223.255.255.255 1.0.0.0
2001:200:: 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450:4001::1
2003::1 2400:cb00::1 2001:db7:: 2001:db9:: 2000::1 3ffe:ffff::1 3fff:1000::1
2001:ffff::1 ::ffff:8.8.8.8 ::ffff:101:101 64:ff9b::8.8.8.8 64:ff9b::101:101
""")

NO_ADDRESS = ["", "localhost", "127.1", "0x7f.0.0.1", "0177.0.0.1", "[::1]",
              "2130706433", "1.1.1.1 ", "1.1.1.1/32", "::1::"]  # fmt: skip


def passes(address: str, *allowed: str) -> bool:
    return judged(Guard.check, address, allowed)


def judged(
    check: Callable[[Guard, str], None], host: str, allowed: Iterable[str]
) -> bool:
    try:
        check(Guard(map(ip_network, allowed)), host)
    except Refused as error:
        assert str(error)  # noqa: PT017
        return False
    return True


def test_public_addresses_pass() -> None:
    assert [each for each in PUBLIC if not passes(each)] == []


def test_nothing_else_passes() -> None:
    others = [*NOT_PUBLIC, *METADATA, *NO_ADDRESS]
    assert [each for each in others if passes(each)] == []


def test_what_is_no_address_never_passes() -> None:
    every = ("0.0.0.0/0", "::/0")
    assert [each for each in NO_ADDRESS if passes(each, *every)] == []


@pytest.mark.parametrize("address", METADATA)
def test_metadata_passes_only_if_named_exactly(address: str) -> None:
    bits = IPv6Address(address).max_prefixlen if ":" in address else 32

    assert not passes(address, "0.0.0.0/0", "::/0")
    around = ip_network(f"{address}/{bits - 1}", strict=False)
    assert not passes(address, str(around))
    assert passes(address, f"{address}/{bits}")


@pytest.mark.parametrize(
    ("address", "allowed", "may"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "127.0.0.1/32", True),
        ("127.0.0.1", "10.0.0.0/8", False),
        ("127.0.0.1", "::/0", False),
        ("::1", "::1/128", True),
        ("::1", "127.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.0/24", True),
        ("10.1.3.3", "10.1.2.0/24", False),
        ("fd00::1", "fc00::/7", True),
        ("8.8.8.8", "10.0.0.0/8", True),
        ("::ffff:10.0.0.1", "10.0.0.0/8", True),
        ("::ffff:127.0.0.1", "10.0.0.0/8", False),
        ("::ffff:127.0.0.1", "::/0", False),
        ("::ffff:169.254.169.254", "169.254.0.0/16", False),
        ("::ffff:169.254.169.254", "169.254.169.254/32", True),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8", True),
        ("64:ff9b::10.0.0.1", "64:ff9b::/96", False),
        ("64:ff9b::169.254.169.254", "64:ff9b::/96", False),
        ("64:ff9b::169.254.169.254", "169.254.169.254/32", True),
        ("::127.0.0.1", "::/96", False),
        ("::8.8.8.8", "::/96", True),
        ("2002:7f00:1::1", "2002::/16", False),
        ("2002:808:808::1", "2002::/16", True),
        ("2002:7f00:1::1", "127.0.0.0/8", False),
        ("2001:0:808:808::f7f7:f7f7", "2001::/32", True),
        ("2001:0:808:808::80ff:fffe", "2001::/32", False),
        ("2001:0:7f00:1::f7f7:f7f7", "2001::/32", False),
        ("fe80::1%eth0", "fe80::/10", False),
        ("64:ff9b:1::8.8.8.8", "64:ff9b:1::/48", True),
        ("64:ff9b:1::127.0.0.1", "64:ff9b:1::/48", False),
        ("64:ff9b:1::169.254.169.254", "::/0", False),
        ("::ffff:0:169.254.169.254", "::/0", False),
        ("2606:4700::5efe:8.8.8.8", "10.0.0.0/8", True),
        ("2606:4700::5efe:10.0.0.1", "10.0.0.0/8", True),
        ("2606:4700::5efe:10.0.0.1", "2606:4700::/32", False),
        ("2606:4700::200:5efe:10.0.0.1", "2606:4700::/32", False),
        ("::5efe:127.0.0.1", "::/0", False),
    ],
)
def test_allowed_networks_add_to_the_public_ones(
    address: str, allowed: str, may: bool
) -> None:
    assert passes(address, allowed) is may


@pytest.mark.parametrize(
    ("host", "allowed", "may"),
    [
        ("example.com", "", True),
        ("example.com.", "", True),
        ("localhost.example.com", "", True),
        ("localhost.com", "", True),
        ("notlocalhost.org", "", True),
        ("my-internal.com", "", True),
        ("internal.example.com", "", True),
        ("metadata.google.com", "", True),
        ("xn--mnchen-3ya.de", "", True),
        ("8.8.8.8", "", True),
        ("2606:4700::1", "", True),
        ("receiver", "", False),
        ("receiver", "172.16.0.0/12", True),
        ("receiver.", "127.0.0.0/8", True),
        ("db.internal", "fd00::/8", True),
        ("db.internal.", "", False),
        ("localhost", "127.0.0.0/8", True),
        ("localhost", "127.0.0.1/32", True),
        ("localhost.", "::1/128", True),
        ("a.localhost", "0.0.0.0/0", True),
        ("localhost", "10.0.0.0/8", False),
        ("a.localhost", "fc00::/7", False),
        ("metadata.google.internal", "10.0.0.0/8", False),
        ("metadata.google.internal.", "169.254.0.0/16", False),
        ("metadata.google.internal", "127.0.0.1/32", False),
        ("metadata.google.internal", "169.254.169.254/32", True),
        ("metadata.goog", "fd20:ce::254/128", True),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("10.0.0.1", "127.0.0.0/8", False),
    ],
)
def test_hosts_need_the_network_that_they_are_known_to_lead_to(
    host: str, allowed: str, may: bool
) -> None:
    assert judged(Guard.check_host, host, allowed.split()) is may


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_passes_as_ipv4_does(address: IPv4Address) -> None:
    itself = passes(str(address))

    assert passes(f"::ffff:{address}") is itself
    assert passes(f"64:ff9b::{address}") is itself


@given(st.ip_addresses(network="64:ff9b::/96") | st.ip_addresses(v=6))
def test_no_ipv6_address_leads_into_a_private_network(
    address: IPv4Address | IPv6Address,
) -> None:
    assert isinstance(address, IPv6Address)
    if passes(str(address)):
        assert not address.is_multicast
        assert not address.is_link_local
        assert address in ip_network("2000::/3") or passes(
            str(IPv4Address(int(address) & 0xFFFFFFFF))
        )

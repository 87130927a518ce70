"""The URL of a webhook, checked and taken apart without changing it.

The grammar is RFC 3986's; hosts are read as browsers read them (WHATWG URL
Standard, UTS #46), so that a host cannot mean one address to the check and
another to the resolver.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

MAX_URL_LENGTH = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.ASCII | re.IGNORECASE)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\\\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x21-\x7e]")
_PORT = re.compile(r"[0-9]{1,5}")
# Host names have no underscores (RFC 952), but names of services do.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


Origin = tuple[str, str, int]
"""Scheme, host and port: what connections can be shared for."""


class InvalidURL(ValueError):
    """The URL cannot be called; the text tells its user how to mend it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes and what stands on its request line.

    scheme          "http" or "https"
    host            lower case: an ASCII name (punycode for an IDN; a final
                    dot stays, and spares the resolver's search list), a
                    dotted quad, or an IPv6 address without brackets
    port            1-65535
    request_target  path and query byte for byte as given, printable ASCII
    host_header     the value of the Host header: IPv6 in brackets, the port
                    only where it is not the scheme's own
    """

    scheme: str
    host: str
    port: int
    request_target: str
    host_header: str

    @property
    def origin(self) -> Origin:
        """What it has in common with other URLs of its server."""
        return self.scheme, self.host, self.port


def parse_target(url: str) -> Target:
    """Check a URL and take it apart.

    Raises InvalidURL, whose text is a sentence for the API's user.
    """
    if len(url) > MAX_URL_LENGTH:
        raise InvalidURL(f"A URL has at most {MAX_URL_LENGTH:,} characters.")
    if found := _FORBIDDEN.search(url):
        raise InvalidURL(_percent_encoded(found.group()))
    match = _URL.match(url)
    if match is None:
        raise InvalidURL(
            "Give an absolute URL that begins with http:// or https://."
        )
    scheme, authority, rest = match.groups()
    if found := _NOT_ASCII.search(url, match.end(2)):
        raise InvalidURL(_percent_encoded(found.group()))
    scheme = scheme.lower()
    host, bracketed, port = _authority(authority, _DEFAULT_PORTS[scheme])
    return Target(
        scheme=scheme,
        host=host,
        port=port,
        request_target=rest if rest.startswith("/") else f"/{rest}",
        host_header=(
            bracketed
            if port == _DEFAULT_PORTS[scheme]
            else f"{bracketed}:{port}"
        ),
    )


def host_of(url: str) -> str | None:
    """Return the host of a Target of this URL; None if it can't be called.

    It checks only what is needed for that.
    """
    match = _URL.match(url)
    if match is None:
        return None
    try:
        return _authority(match[2], 80)[0]
    except InvalidURL:
        return None


def is_ip_literal(host: str) -> bool:
    """Tell whether a Target's host is an address, without parsing it again.

    parse_target() accepts a last label of digits only in a dotted quad.
    """
    return ":" in host or host.rpartition(".")[2].isdigit()


def _percent_encoded(char: str) -> str:
    """Say how a character is to be written in a URL.

    The character itself is not repeated: it may be one that no answer can
    carry.
    """
    name = f"U+{ord(char):04X}"
    if "\ud800" <= char <= "\udfff":
        return (
            f"The URL contains {name}, half of a surrogate pair, which is no "
            "character; write the whole character percent-encoded, such as "
            "%F0%9F%98%80 for U+1F600."
        )
    encoded = "".join(f"%{byte:02X}" for byte in char.encode())
    return f"The URL contains {name}; write it percent-encoded: {encoded}."


def _authority(authority: str, default_port: int) -> tuple[str, str, int]:
    """Return the host, the host as a URL writes it, and the port."""
    if "@" in authority:
        raise InvalidURL(
            "Leave out the user name and password before the host."
        )
    if authority.startswith("["):
        text, closed, tail = authority[1:].partition("]")
        if not closed or (tail and not tail.startswith(":")):
            raise InvalidURL("Write an IPv6 host as [address] or [address]:n.")
        host = _ipv6(text)
        return (
            host,
            f"[{host}]",
            _port(tail[1:] if tail else None, default_port),
        )
    name, colon, port = authority.partition(":")
    host = _host(name)
    return host, host, _port(port if colon else None, default_port)


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise InvalidURL("A port is a number from 1 to 65535.")
    return int(text)


def _ipv6(text: str) -> str:
    if "%" in text:
        raise InvalidURL("Leave out the zone (%...) of the IPv6 address.")
    try:
        return str(IPv6Address(text))
    except AddressValueError:
        raise InvalidURL(
            "The host in brackets is not an IPv6 address."
        ) from None


@lru_cache(maxsize=4096)
def _host(name: str) -> str:
    """Return a name or dotted quad in lower-case ASCII."""
    host = name.lower() if name.isascii() else _punycode(name)
    labels = host.split(".")
    if len(labels) > 1 and not labels[-1]:
        labels.pop()
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host)
    if not all(map(_LABEL.fullmatch, labels)) or len(host.rstrip(".")) > 253:
        raise InvalidURL(
            "Give a real host: labels of at most 63 letters, digits, '-' "
            "and '_' between dots, 253 characters in all."
        )
    return host


def _punycode(name: str) -> str:
    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()
    except UnicodeError:
        raise InvalidURL(
            "The host is not a valid internationalized name; write it in "
            "its ASCII form (xn--...)."
        ) from None


def _ipv4(host: str) -> str:
    """Accept only the spelling that every resolver reads alike.

    inet_aton() also takes 127.1, 2130706433, 0x7f.1 and 0177.0.0.1.
    """
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise InvalidURL(
            "A host that ends in a number must be an IPv4 address of four "
            "decimal numbers, such as 192.0.2.1."
        ) from None

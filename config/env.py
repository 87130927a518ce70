"""Reads settings from the environment; errors name the variable."""

import os
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, TypeVar

from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from apps.core.sealing import PLAIN, KeyRing, parse_ring
from apps.webhooks.signing import (
    PREFIX,
    PRIVATE_PREFIX,
    parse_private_key,
    parse_secret,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
    )

Network = IPv4Network | IPv6Network
Key = TypeVar("Key")


def text(name: str, default: str = "") -> str:
    """Return the variable, stripped, or the default when unset or empty."""
    return os.environ.get(name, "").strip() or default


def whole(name: str, default: int, *, least: int, most: int) -> int:
    """Return the variable as a whole number within its bounds."""
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise ImproperlyConfigured(
            f"{name}={raw!r} must be a whole number from {least} to {most}."
        )
    return value


def flag(name: str, *, default: bool = False) -> bool:
    """Return whether the variable is switched on; the default when unset."""
    raw = text(name, str(default)).lower()
    if raw not in {"0", "1", "true", "false", "yes", "no", "on", "off"}:
        raise ImproperlyConfigured(f"{name}={raw!r} must be 1 or 0.")
    return raw in {"1", "true", "yes", "on"}


def choice(name: str, *allowed: str) -> str:
    """Return one of the allowed values; the first one when unset."""
    value = text(name, allowed[0])
    if value not in allowed:
        raise ImproperlyConfigured(
            f"{name}={value!r} must be one of: {', '.join(allowed)}."
        )
    return value


def address(name: str, default: str) -> str:
    """Return the variable if it is an IP address; the default when unset."""
    value = text(name, default)
    try:
        ip_address(value)
    except ValueError:
        raise ImproperlyConfigured(
            f"{name}={value!r} must be an IP address, such as 127.0.0.1."
        ) from None
    return value


def words(name: str, default: str = "") -> tuple[str, ...]:
    """Return a comma-separated list; an empty one when set but empty."""
    raw = os.environ.get(name, default)
    return tuple(word.strip() for word in raw.split(",") if word.strip())


def networks(name: str) -> tuple[Network, ...]:
    """Return a comma-separated list of CIDR networks; none when unset."""
    try:
        return tuple(ip_network(word) for word in words(name))
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} must be comma-separated CIDR networks such as "
            f"10.0.0.0/8,fd00::/8: {error}."
        ) from None


def signing_keys(name: str) -> tuple[bytes, ...]:
    """Return the keys of a comma-separated list of secrets."""
    return _keys(name, parse_secret, "secrets", PREFIX)


def private_keys(name: str) -> "tuple[Ed25519PrivateKey, ...]":
    """Return the keys of a comma-separated list of private keys."""
    return _keys(name, parse_private_key, "private keys", PRIVATE_PREFIX)


def _keys(
    name: str, parse: Callable[[str], Key], what: str, prefix: str
) -> tuple[Key, ...]:
    try:
        return tuple(map(parse, words(name)))
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} must be one or more comma-separated {what} of the form "
            f"{prefix}<base64>: {error}. Make one with: echo {prefix}$(openssl"
            " rand -base64 32)"
        ) from None


def key_ring(name: str) -> KeyRing:
    """Return the keys of a comma-separated list; none when unset."""
    try:
        return parse_ring(words(name))
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} must be comma-separated keys of the form id:base64, the"
            f" first of which encrypts, or `{PLAIN}` before them: {error}."
            " Make one with: echo 2026-01:$(openssl rand -base64 32)"
        ) from None


def database(name: str) -> dict[str, object]:
    """Return Django's DATABASES entry for a postgresql:// URL.

    Everything that libpq takes in a URL (sslmode, sslrootcert, several
    hosts…) is passed on to it. If there are several hosts, libpq finds the
    primary among them, unless the URL says otherwise.
    """
    url = text(name, "postgresql://postgres@127.0.0.1:5432/timers")
    try:
        found = conninfo_to_dict(url)
    except ProgrammingError:  # its text would show the password
        raise ImproperlyConfigured(
            f"{name} must be a postgresql:// URL that libpq understands."
        ) from None
    if "," in str(found.get("host", "")):
        found.setdefault("target_session_attrs", "primary")
    keys = {"dbname": "NAME", "user": "USER", "password": "PASSWORD",
            "host": "HOST", "port": "PORT"}
    entry: dict[str, object] = {
        django: str(found.pop(libpq, None) or "")
        for libpq, django in keys.items()
    }
    return {"ENGINE": "django.db.backends.postgresql", **entry,
            "OPTIONS": found}

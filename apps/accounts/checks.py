"""Refuses to serve without keys where others than this machine can call."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


def exposure() -> str | None:
    """Return why the API may not be served like this; None if it may."""
    address = settings.API_ADDRESS
    if settings.REQUIRE_API_KEY or ip_address(address).is_loopback:
        return None
    return (
        "REQUIRE_API_KEY is off, and other machines reach the API at"
        f" API_ADDRESS={address}: everybody could set and cancel timers."
        " Leave REQUIRE_API_KEY on, and make keys with `manage.py api_keys"
        " create`. If only this machine reaches the API, set"
        " API_ADDRESS=127.0.0.1."
    )


@register(Tags.security)
def keys_are_required(
    app_configs: Sequence[Any] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Return an error if everybody could use the API without a key."""
    reason = exposure()
    return [] if reason is None else [Error(reason, id="accounts.E001")]

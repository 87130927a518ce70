"""Whether a call's signature verifies, and if not, why."""

from collections.abc import Mapping
from datetime import datetime

from apps.accounts.signing import SigningKeys
from apps.webhooks.signing import sign

_SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature")
#: How much the timestamp may differ from the clock, in seconds: as much as
#: the libraries of Standard Webhooks allow.
TOLERANCE = 300


def problem(
    headers: Mapping[str, str],
    body: bytes,
    came_at: datetime,
    keys: SigningKeys,
) -> str | None:
    """Return why a call is not this service's own; None if it is.

    It is signed anew with the keys of whoever looks: both kinds of signature
    are the same each time.
    """
    if missing := [name for name in _SIGNED if name not in headers]:
        return f"it has no {', '.join(missing)}"
    if not keys.secrets and not keys.private_keys:
        return (
            "your account has no secret to verify it with (that of `default`"
            " is web's WEBHOOK_SECRET)"
        )
    webhook_id, timestamp, given = (headers[name] for name in _SIGNED)
    if not (timestamp.isascii() and timestamp.isdigit()):
        return "webhook-timestamp is not a number of seconds"
    off = abs(came_at.timestamp() - int(timestamp[:18]))
    if off > TOLERANCE:
        return (
            f"webhook-timestamp differs by {off:,.0f} s from the clock;"
            f" {TOLERANCE} s are allowed"
        )
    made = sign(
        keys.secrets, webhook_id, timestamp, body, keys.private_keys
    )
    if set(given.split(" ")).isdisjoint(made.split(" ")):
        return (
            "no signature was made with a secret of your account (that of"
            " `default` is web's WEBHOOK_SECRET): the secrets differ, or the"
            " body was changed"
        )
    return None

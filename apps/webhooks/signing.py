"""Signatures by which receivers know that a call is ours.

Standard Webhooks 1.0, symmetric (HMAC-SHA256, `v1`):
https://github.com/standard-webhooks/standard-webhooks
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence

#: What a serialized secret starts with; base64 of the key follows.
PREFIX = "whsec_"
#: Bytes that a key may have.
LEAST, MOST = 24, 64


def new_secret() -> str:
    """Return a secret made at random, serialized."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def parse_secret(text: str) -> bytes:
    """Return the key that a secret stands for.

    Raises ValueError, whose text tells nothing of the secret.
    """
    if not text.startswith(PREFIX):
        raise ValueError(f"a secret starts with {PREFIX}")
    try:
        key = binascii.a2b_base64(text[len(PREFIX):], strict_mode=True)
    except ValueError:
        raise ValueError(f"what follows {PREFIX} is not base64") from None
    if not LEAST <= len(key) <= MOST:
        raise ValueError(
            f"a secret is base64 of {LEAST} to {MOST} bytes, not {len(key)}"
        )
    return key


def sign(
    keys: Sequence[bytes], webhook_id: str, timestamp: str, body: bytes
) -> str:
    """Return the value of the header `webhook-signature`.

    timestamp  the value of `webhook-timestamp`: seconds since 1970
    body       the bytes that are sent

    There is a signature for each key, in their order: a receiver takes the
    call if any of them is made with the key that it has.
    """
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(key, signed, "sha256") for key in keys)
    return " ".join(
        f"v1,{base64.b64encode(digest).decode()}" for digest in digests
    )

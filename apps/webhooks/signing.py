"""Signatures by which receivers know that a call is ours.

Standard Webhooks 1.0, symmetric (HMAC-SHA256, `v1`) and asymmetric (Ed25519,
`v1a`): https://github.com/standard-webhooks/standard-webhooks
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
    )

#: What a serialized secret starts with; base64 of the key follows.
PREFIX = "whsec_"
#: How many bytes a key may have.
LEAST, MOST = 24, 64
#: What a serialized private key and a serialized public key start with.
PRIVATE_PREFIX, PUBLIC_PREFIX = "whsk_", "whpk_"
#: How many bytes a private key (RFC 8032) and its public key have each.
_HALF = 32


def new_secret() -> str:
    """Return a secret made at random, serialized."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def new_private_key() -> "Ed25519PrivateKey":
    """Return a private key made at random."""
    return private_key(secrets.token_bytes(_HALF))


def private_key(raw: bytes) -> "Ed25519PrivateKey":
    """Return the Ed25519 key of 32 bytes. Raises ValueError for others."""
    # Only a process that signs with such a key pays for this import.
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return ed25519.Ed25519PrivateKey.from_private_bytes(raw)


def parse_secret(text: str) -> bytes:
    """Return the key that a secret stands for.

    Raises ValueError, whose text tells nothing of the secret.
    """
    key = _decoded(text, "secret", PREFIX)
    if not LEAST <= len(key) <= MOST:
        raise ValueError(
            f"a secret is base64 of {LEAST} to {MOST} bytes, not {len(key)}"
        )
    return key


def parse_private_key(text: str) -> "Ed25519PrivateKey":
    """Return the Ed25519 key that a serialized private key stands for.

    It is 32 bytes, or 64: the public key may follow, as in Svix's keys.
    Raises ValueError, whose text tells nothing of the key.
    """
    raw = _decoded(text, "private key", PRIVATE_PREFIX)
    if len(raw) not in (_HALF, 2 * _HALF):
        raise ValueError(
            f"a private key is base64 of 32 or 64 bytes, not {len(raw)}"
        )
    key = private_key(raw[:_HALF])
    if raw[_HALF:] not in (b"", key.public_key().public_bytes_raw()):
        raise ValueError(
            "the last 32 of its 64 bytes are not the public key of the first"
        )
    return key


def public_key(key: "Ed25519PrivateKey") -> str:
    """Return the public key, with which receivers verify signatures."""
    raw = key.public_key().public_bytes_raw()
    return PUBLIC_PREFIX + base64.b64encode(raw).decode()


def _decoded(text: str, what: str, prefix: str) -> bytes:
    """Return the bytes that follow the prefix in base64.

    Raises ValueError, whose text tells nothing of them.
    """
    if not text.startswith(prefix):
        raise ValueError(f"a {what} starts with {prefix}")
    try:
        return binascii.a2b_base64(text[len(prefix):], strict_mode=True)
    except ValueError:
        raise ValueError(f"what follows {prefix} is not base64") from None


def sign(
    keys: Sequence[bytes],
    webhook_id: str,
    timestamp: str,
    body: bytes,
    private_keys: "Sequence[Ed25519PrivateKey]" = (),
) -> str:
    """Return the value of the header `webhook-signature`.

    timestamp  the value of `webhook-timestamp`: seconds since 1970
    body       the bytes that are sent

    There is a signature for each key, in their order, then one for each
    private key: a receiver takes the call if any of them is made with the
    key that it has.
    """
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    made = [("v1", hmac.digest(key, signed, "sha256")) for key in keys]
    made += [("v1a", key.sign(signed)) for key in private_keys]
    return " ".join(
        f"{version},{base64.b64encode(signature).decode()}"
        for version, signature in made
    )

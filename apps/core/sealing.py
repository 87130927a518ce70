"""Encryption at rest: values of rows, sealed with a key of a ring.

A sealed value is a nonce and what AES-256-GCM makes of the value. It opens
only with its key, and in its place: the row and the column that it is of.
Each place has a key of its own, derived from the ring's by HMAC-SHA-256. So
it does not matter how many values a key of the ring has sealed.
"""

import binascii
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: In place of the first key: nothing is encrypted, what is can be read.
PLAIN = "plain"

_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_KEY_BYTES, _NONCE_BYTES = 32, 12


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by their ids; `current` is the one that seals, None: none does."""

    current: str | None = None
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def seal(self, value: bytes, place: str) -> bytes:
        """Return a value sealed with the current key, plain if none seals."""
        if self.current is None:
            return value
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(self.current, place)
        return nonce + cipher.encrypt(nonce, value, place.encode())

    def unseal(self, key_id: str | None, sealed: bytes, place: str) -> bytes:
        """Return a value that was sealed with a key, or is plain (None).

        Raises ValueError, whose text tells nothing of the value.
        """
        if key_id is None:
            return sealed
        # Only a process that has something to decrypt pays for this import.
        from cryptography.exceptions import InvalidTag

        if key_id not in self.keys:
            raise ValueError(
                f"it is encrypted with the key {key_id[:32]!r}, which is not"
                " among ENCRYPTION_KEYS"
            )
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            cipher = self._cipher(key_id, place)
            return cipher.decrypt(nonce, text, place.encode())
        except (InvalidTag, ValueError):
            raise ValueError(
                f"it can't be decrypted with the key {key_id[:32]!r}:"
                " ENCRYPTION_KEYS has another key of this name, or the row was"
                " changed"
            ) from None

    def _cipher(self, key_id: str, place: str) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(hmac.digest(self.keys[key_id], place.encode(), "sha256"))


def ring() -> KeyRing:
    """Return the keys of this process, by its settings."""
    found: KeyRing = settings.ENCRYPTION_KEYS
    return found


def parse_ring(words: tuple[str, ...]) -> KeyRing:
    """Return the ring of `id:base64` words, the first of which seals.

    Raises ValueError, whose text tells nothing of the keys.
    """
    is_plain = bool(words) and words[0] == PLAIN
    keys: dict[str, bytes] = {}
    for number, word in enumerate(words[is_plain:], start=1 + is_plain):
        key_id, colon, text = word.partition(":")
        if not colon or key_id == PLAIN or not _ID.fullmatch(key_id):
            raise ValueError(
                f"entry {number} does not begin with an id of 1 to 32 letters,"
                " digits, `.`, `_` and `-`, then a colon"
            )
        if key_id in keys:
            raise ValueError(f"the id {key_id} stands twice")
        keys[key_id] = _key(key_id, text)
    current = None if is_plain else next(iter(keys), None)
    return KeyRing(current, keys)


def _key(key_id: str, text: str) -> bytes:
    try:
        key = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ValueError(f"the key {key_id} is not base64") from None
    if len(key) != _KEY_BYTES:
        raise ValueError(
            f"the key {key_id} has {len(key)} bytes, not {_KEY_BYTES}"
        )
    return key

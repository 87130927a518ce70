"""What an API key looks like: `tsk_<prefix>_<secret>`.

    prefix    8 letters and digits. It names the key, and is no secret.
    secret    43 letters and digits, which are 256 random bits, and then the
              6 of the checksum: CRC-32 of all that stands before it.

Numbers are written in base 62, with the digits 0-9, A-Z, a-z, and zeros in
front. So a program that looks for lost secrets can tell a key from any other
text: it matches PATTERN, and its checksum is right.
"""

import re
import secrets
import string
from binascii import crc32
from dataclasses import dataclass
from hashlib import sha256

PATTERN = re.compile(r"tsk_([0-9A-Za-z]{8})_([0-9A-Za-z]{49})")
START = "tsk_"

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX, _SECRET, _CHECKSUM = 8, 43, 6


@dataclass(frozen=True, slots=True)
class KeyParts:
    """The parts of a key: its prefix, and the SHA-256 of its secret."""

    prefix: str
    digest: bytes


def new_key() -> str:
    """Return a new key."""
    prefix = _base62(secrets.randbelow(62**_PREFIX), _PREFIX)
    start = f"{START}{prefix}_{_base62(secrets.randbits(256), _SECRET)}"
    return start + _checksum(start)


def parse_key(text: str) -> KeyParts | None:
    """Return the parts of a key, None if the text can't be one."""
    match = PATTERN.fullmatch(text)
    if match is None or _checksum(text[:-_CHECKSUM]) != text[-_CHECKSUM:]:
        return None
    return KeyParts(match[1], sha256(match[2].encode()).digest())


def _checksum(text: str) -> str:
    return _base62(crc32(text.encode()), _CHECKSUM)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))

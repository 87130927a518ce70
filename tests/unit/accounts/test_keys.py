"""What an API key looks like, and which texts are none."""

import math
import re
from binascii import crc32
from hashlib import sha256

import pytest

from apps.accounts.keys import PATTERN, new_key, parse_key
from tests.support.service import ROOT

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY = "tsk_00000042_" + "0" * 40 + "abc"


def checksum(text: str) -> str:
    """Return a text's checksum, as the page on keys describes it."""
    number = crc32(text.encode())
    digits = [DIGITS[number // 62**n % 62] for n in reversed(range(6))]
    return "".join(digits)


def test_a_new_key_has_its_parts() -> None:
    key = new_key()
    assert PATTERN.fullmatch(key)
    assert key[-6:] == checksum(key[:-6])
    parts = parse_key(key)
    assert parts is not None
    _, prefix, secret = key.split("_")
    assert parts.prefix == prefix
    assert parts.digest == sha256(secret.encode()).digest()
    assert secret not in repr(parts)


def test_a_secret_has_256_random_bits() -> None:
    assert 43 * math.log2(62) > 256
    secrets = {new_key().split("_")[2][:43] for _ in range(200)}
    assert len(secrets) == 200
    # All digits occur at each place but the first, which is a small one
    for place in range(1, 43):
        assert len({secret[place] for secret in secrets}) > 40


def test_a_key_that_is_made_elsewhere_is_taken() -> None:
    assert parse_key(KEY + checksum(KEY)) is not None


@pytest.mark.parametrize("place", range(len(KEY) + 6))
def test_a_mistyped_key_is_none(place: int) -> None:
    key = KEY + checksum(KEY)
    for other in ("0", "z", "-", " "):
        if key[place] != other:
            wrong = key[:place] + other + key[place + 1:]
            assert parse_key(wrong) is None
    assert parse_key(key[:place]) is None


@pytest.mark.parametrize(
    "text", ["", "tsk_", "tsk__", "é" * 62, "tsk_00000042_" + "0" * 49]
)
def test_other_texts_are_none(text: str) -> None:
    assert parse_key(text) is None


def test_the_page_has_the_pattern_that_scanners_need() -> None:
    page = (ROOT / "docs" / "accounts.md").read_text()
    assert f"`{PATTERN.pattern.replace('(', '').replace(')', '')}`" in page
    (key,) = set(re.findall(r"tsk_\w{8}_\w{49}", page))
    assert parse_key(key)

"""Sealed values: who can open them, and which settings are refused."""

from base64 import b64encode

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given, strategies

from apps.core.sealing import KeyRing, parse_ring
from config import env

A, B = bytes(range(32)), bytes(range(1, 33))
A64 = b64encode(A).decode()
RING = KeyRing("a", {"a": A, "b": B})
PLACE = "timer 1, body"


@given(strategies.binary(max_size=300))
def test_a_value_opens_with_its_key_in_its_place(value: bytes) -> None:
    sealed = RING.seal(value, PLACE)
    assert RING.unseal("a", sealed, PLACE) == value
    assert len(sealed) == len(value) + 28


def test_no_value_is_sealed_alike_twice() -> None:
    assert RING.seal(b"value", PLACE) != RING.seal(b"value", PLACE)


def test_a_key_that_is_not_the_first_opens_as_well() -> None:
    older = KeyRing("b", {"b": B})
    assert RING.unseal("b", older.seal(b"value", PLACE), PLACE) == b"value"


@pytest.mark.parametrize(("key_id", "place", "change", "why"), [
    ("a", "timer 2, body", b"", "can't be decrypted with the key 'a'"),
    ("b", PLACE, b"", "can't be decrypted with the key 'b'"),
    ("a", PLACE, b"x", "can't be decrypted with the key 'a'"),
    ("lost", PLACE, b"", "'lost', which is not among ENCRYPTION_KEYS"),
])
def test_what_does_not_open_says_why(
    key_id: str, place: str, change: bytes, why: str
) -> None:
    sealed = RING.seal(b"the value", PLACE) + change
    with pytest.raises(ValueError, match="key") as raised:
        RING.unseal(key_id, sealed, place)
    assert why in str(raised.value)
    assert "the value" not in str(raised.value)


def test_a_value_that_is_too_short_does_not_open() -> None:
    for size in range(29):
        with pytest.raises(ValueError, match="can't be decrypted"):
            RING.unseal("a", bytes(size), PLACE)


@pytest.mark.parametrize(("text", "current", "keys"), [
    ("", None, {}),
    (f"a:{A64}", "a", {"a": A}),
    (f" 2026-01.x_:{A64} , b:{b64encode(B).decode()}", "2026-01.x_",
     {"2026-01.x_": A, "b": B}),
    (f"plain, a:{A64}", None, {"a": A}),
    ("plain", None, {}),
])
def test_what_encryption_keys_mean(
    text: str, current: str | None, keys: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEYS", text)
    found = env.key_ring("ENCRYPTION_KEYS")
    assert (found.current, found.keys) == (current, keys)
    assert A64 not in repr(found)
    assert repr(A) not in repr(found)


@pytest.mark.parametrize(("text", "why"), [
    (A64, "entry 1 does not begin with an id"),
    (f":{A64}", "entry 1 does not begin with an id"),
    (f"a:{A64},{A64}", "entry 2 does not begin with an id"),
    (f"a:{A64},plain", "entry 2 does not begin with an id"),
    (f"plain:{A64}", "entry 1 does not begin with an id"),
    (f"plain,ä:{A64}", "entry 2 does not begin with an id"),
    (f"{'a' * 33}:{A64}", "entry 1 does not begin with an id"),
    (f"a:{A64},a:{A64}", "the id a stands twice"),
    (f"a:{A64[:-1]}", "the key a is not base64"),
    ("a:", "the key a has 0 bytes, not 32"),
    (f"a:{b64encode(A[:16]).decode()}", "the key a has 16 bytes, not 32"),
])
def test_a_wrong_setting_is_named_and_not_told(
    text: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEYS", text)
    with pytest.raises(ImproperlyConfigured) as raised:
        env.key_ring("ENCRYPTION_KEYS")
    assert str(raised.value).startswith("ENCRYPTION_KEYS must be")
    assert why in str(raised.value)
    assert A64[:8] not in str(raised.value)


def test_no_words_make_an_empty_ring() -> None:
    assert parse_ring(()) == KeyRing(None, {})

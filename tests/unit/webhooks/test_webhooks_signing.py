"""Signatures, against the reference vector and the public packages."""

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from apps.webhooks.signing import new_secret, parse_secret, sign

VECTOR = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def secret(size: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(size))).decode()


def test_the_reference_vector() -> None:
    assert sign(
        [parse_secret(VECTOR)],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        b'{"test": 2432232314}',
    ) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(
    key=st.binary(min_size=24, max_size=64),
    body=st.text(st.characters(codec="utf-8")),
    seconds=st.integers(0, 2**31),
)
def test_the_public_packages_sign_alike(
    key: bytes, body: str, seconds: int
) -> None:
    # At the top, it would take a tenth of each worker's collection.
    import svix.webhooks

    text = "whsec_" + base64.b64encode(key).decode()
    moment = datetime.fromtimestamp(seconds, UTC)
    ours = sign([parse_secret(text)], "a-b", str(seconds), body.encode())
    for package in (standardwebhooks, svix.webhooks):
        assert package.Webhook(text).sign("a-b", moment, body) == ours


def test_each_key_signs_in_its_order() -> None:
    new, old = parse_secret(new_secret()), parse_secret(new_secret())
    both = sign([new, old], "id", "1", b"").split(" ")
    assert both == [sign([key], "id", "1", b"") for key in (new, old)]
    assert both[0] != both[1]


def test_a_new_secret_is_another_one_each_time() -> None:
    assert len(parse_secret(new_secret())) == 32
    assert new_secret() != new_secret()


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_may_have_24_to_64_bytes(size: int) -> None:
    assert parse_secret(secret(size)) == bytes(range(size))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (secret(23), "24 to 64 bytes, not 23"),
        (secret(65), "24 to 64 bytes, not 65"),
        ("whsec_", "24 to 64 bytes, not 0"),
        (VECTOR.removeprefix("whsec_"), "starts with whsec_"),
        (VECTOR.upper(), "starts with whsec_"),
        (VECTOR.replace("whsec_", "whsk_"), "starts with whsec_"),
        (secret(32).rstrip("="), "not base64"),
        (secret(32) + "=", "not base64"),
        (VECTOR[:-1] + "-", "not base64"),
        (VECTOR + " ", "not base64"),
        (VECTOR[:-1] + "é", "not base64"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_told(
    text: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_secret(text)
    assert text[6:] == "" or text[6:] not in str(caught.value)

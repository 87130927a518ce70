"""Asymmetric signatures, against published vectors and the public packages."""

import base64
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PublicKey,
)
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import settings as rules
from hypothesis import strategies as st

from apps.webhooks.signing import (
    new_secret,
    parse_private_key,
    parse_secret,
    public_key,
    sign,
)

ROOT = Path(__file__).resolve().parents[3]

# The example of Standard Webhooks' specification: "Webhook headers" has its
# signature, and Svix's server (worker.rs, test_asymmetric_key_signing) what
# it was made of.
EXAMPLE = (
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dR"
    "qSKJp4AJ6p9lMicMFs6Kvg=="
)
EXAMPLE_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
EXAMPLE_SIGNATURE = (
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZ"
    "dpXwVLPo3mNl8EM+m7TBAg=="
)
EXAMPLE_CALL = (
    "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
)

# RFC 8032, section 7.1: private key, public key, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


def private_key(raw: bytes) -> str:
    return "whsk_" + base64.b64encode(raw).decode()


SHORT = private_key(bytes(range(32)))


@pytest.mark.parametrize(
    ("private", "public", "message", "signature"),
    RFC_8032,
    ids=["empty", "1 byte", "2 bytes", "SHA(abc)"],
)
def test_the_vectors_of_rfc_8032(
    private: str, public: str, message: str, signature: str
) -> None:
    for raw in (private, private + public):
        key = parse_private_key(private_key(bytes.fromhex(raw)))
        assert base64.b64decode(public_key(key)[5:]).hex() == public
        assert key.sign(bytes.fromhex(message)).hex() == signature


def test_the_example_of_standard_webhooks() -> None:
    key = parse_private_key(EXAMPLE)
    assert public_key(key) == EXAMPLE_PUBLIC
    assert sign((), *EXAMPLE_CALL, [key]) == EXAMPLE_SIGNATURE


def test_secrets_sign_first_and_as_before() -> None:
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    alone = sign([secret], *EXAMPLE_CALL)
    assert alone == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    keys = [parse_private_key(SHORT), parse_private_key(EXAMPLE)]
    other = sign((), *EXAMPLE_CALL, keys[:1])
    assert sign([secret], *EXAMPLE_CALL, keys) == (
        f"{alone} {other} {EXAMPLE_SIGNATURE}"
    )


@pytest.mark.parametrize("name", ["standardwebhooks", "svix.webhooks"])
def test_the_public_packages_find_theirs_beside_it(name: str) -> None:
    package = import_module(name)
    secret, body = new_secret(), b'{"a": 1}'
    now = str(int(datetime.now(UTC).timestamp()))
    key = parse_private_key(SHORT)
    headers = {
        "webhook-id": "a-b",
        "webhook-timestamp": now,
        "webhook-signature": sign(
            [parse_secret(secret)], "a-b", now, body, [key]
        ),
    }
    package.Webhook(secret).verify(body, headers)
    with pytest.raises(package.WebhookVerificationError):
        package.Webhook(new_secret()).verify(body, headers)


@rules(deadline=None)
@given(
    raw=st.binary(min_size=32, max_size=32),
    body=st.binary(),
    seconds=st.integers(0, 2**31),
)
def test_the_public_key_verifies_what_was_signed_and_nothing_else(
    raw: bytes, body: bytes, seconds: int
) -> None:
    key = parse_private_key(private_key(raw))
    header = sign((), "a-b", str(seconds), body, [key])
    signature = base64.b64decode(header.removeprefix("v1a,"))
    public = Ed25519PublicKey.from_public_bytes(
        base64.b64decode(public_key(key).removeprefix("whpk_"))
    )
    signed = f"a-b.{seconds}.".encode() + body
    public.verify(signature, signed)
    with pytest.raises(InvalidSignature):
        public.verify(signature, signed + b" ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (private_key(bytes(31)), "32 or 64 bytes, not 31"),
        (private_key(bytes(33)), "32 or 64 bytes, not 33"),
        (private_key(bytes(65)), "32 or 64 bytes, not 65"),
        ("whsk_", "32 or 64 bytes, not 0"),
        (private_key(bytes(range(64))), "not the public key of the first"),
        (EXAMPLE_PUBLIC, "starts with whsk_"),
        (SHORT.replace("whsk_", "whsec_"), "starts with whsk_"),
        (SHORT.upper(), "starts with whsk_"),
        (SHORT.rstrip("="), "not base64"),
        (SHORT + " ", "not base64"),
        (SHORT[:-2] + "é=", "not base64"),
    ],
)
def test_what_is_no_private_key_is_refused_and_not_told(
    text: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_private_key(text)
    assert text[5:] == "" or text[5:] not in str(caught.value)


def test_a_command_shows_the_public_keys(settings: Any) -> None:
    settings.WEBHOOK_PRIVATE_KEYS = tuple(
        map(parse_private_key, (EXAMPLE, SHORT))
    )
    shown = StringIO()
    call_command("webhook_public_keys", stdout=shown)
    assert shown.getvalue().splitlines() == [
        EXAMPLE_PUBLIC, public_key(parse_private_key(SHORT))
    ]  # fmt: skip


def test_the_command_tells_how_to_make_a_key(settings: Any) -> None:
    settings.WEBHOOK_PRIVATE_KEYS = ()
    told = r"^WEBHOOK_PRIVATE_KEY is not set\..+ echo whsk_\$\(openssl"
    with pytest.raises(CommandError, match=told):
        call_command("webhook_public_keys")


@pytest.mark.parametrize("configured", ["", SHORT])
def test_cryptography_is_imported_only_where_it_signs(
    configured: str,
) -> None:
    program = (
        "import sys, django; django.setup();"
        "import apps.timers.firing.fire, config.urls;"
        "print('cryptography' in sys.modules)"
    )
    env = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "WEBHOOK_PRIVATE_KEY": configured,
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == str(bool(configured))

"""Whether a call's signature verifies, and why not."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from apps.accounts.signing import SigningKeys
from apps.inbox.signature import problem as problem_with
from apps.webhooks.signing import parse_private_key, sign

KEY, OTHER = b"k" * 32, b"o" * 32
PRIVATE = parse_private_key("whsk_" + "QUFB" * 10 + "QUE=")
CAME = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIMESTAMP = str(int(CAME.timestamp()))
BODY = b'{"a": 1}'
Headers = Mapping[str, str]


MINE = SigningKeys((KEY,), ())


def problem(
    headers: Headers, body: bytes, came_at: datetime, keys: SigningKeys = MINE
) -> str | None:
    return problem_with(headers, body, came_at, keys)


def signed(keys: tuple[bytes, ...] = (KEY,), **changes: str) -> Headers:
    return {
        "webhook-id": "id",
        "webhook-timestamp": TIMESTAMP,
        "webhook-signature": sign(keys, "id", TIMESTAMP, BODY),
        **{name.replace("_", "-"): text for name, text in changes.items()},
    }


def without(name: str) -> Headers:
    return {key: value for key, value in signed().items() if key != name}


@pytest.mark.parametrize("headers", [signed(), signed((OTHER, KEY))])
@pytest.mark.parametrize("late", [-299, 0, 299])
def test_a_call_of_ours_verifies(headers: Headers, late: int) -> None:
    assert problem(headers, BODY, CAME + timedelta(seconds=late)) is None


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "no webhook-id, webhook-timestamp, webhook-signature"),
        (without("webhook-id"), "no webhook-id"),
        (signed((OTHER,)), "WEBHOOK_SECRET"),
        (signed(webhook_id="other"), "WEBHOOK_SECRET"),
        (signed(webhook_signature=""), "WEBHOOK_SECRET"),
        (signed(webhook_timestamp="soon"), "not a number"),
        (signed(webhook_timestamp="²"), "not a number"),
        (signed(webhook_timestamp="0"), "s from the clock"),
        (signed(webhook_timestamp="9" * 5000), "s from the clock"),
    ],
)
def test_it_is_said_why_a_call_does_not(headers: Headers, words: str) -> None:
    assert words in (problem(headers, BODY, CAME) or "")


@pytest.mark.parametrize(
    "changed",
    [
        lambda: problem(signed(), BODY + b" ", CAME),
        lambda: problem(signed(), BODY, CAME + timedelta(seconds=301)),
    ],
)
def test_what_was_changed_or_is_old_does_not(
    changed: Callable[[], str | None]
) -> None:
    assert changed()


def test_a_public_key_verifies_too() -> None:
    both = sign((OTHER,), "id", TIMESTAMP, BODY, [PRIVATE])
    headers = signed(webhook_signature=both)
    assert problem(headers, BODY, CAME)
    for secrets in ((), (KEY,)):
        keys = SigningKeys(secrets, (PRIVATE,))
        assert problem(headers, BODY, CAME, keys) is None


def test_there_may_be_no_secret() -> None:
    said = problem(signed(), BODY, CAME, SigningKeys((), ()))
    assert "no secret to verify it with" in (said or "")

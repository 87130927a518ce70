"""What a call consists of: whose headers they are, and which body."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from apps.accounts.signing import SigningKeys
from apps.timers.firing.call import compose
from apps.timers.storage.claim_records import Claim
from apps.timers.storage.records import ClockReading
from apps.webhooks.request import WebhookRequest

DUE = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = SigningKeys((b"a secret",), ())
OURS = {
    "webhook-id", "webhook-timestamp", "webhook-signature", "timer-due-at",
    "timer-attempt",
}  # fmt: skip


def composed(**request: Any) -> tuple[dict[str, str], bytes]:
    claim = Claim(
        ClockReading(DUE, 0.0), WebhookRequest(**request), None, None,
        uuid4(), uuid4(), 1, "http://receiver.example/", DUE, DUE, DUE, None,
        connect_failures=0, retry_until=None, attempts=0, claims=1,
        retries=0, called=False,
    )  # fmt: skip
    headers, body = compose(claim, KEYS, DUE)
    assert headers.keys() >= OURS
    assert headers["webhook-id"] == str(claim.id)
    return {k: v for k, v in headers.items() if k not in OURS}, body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_the_default_body_is_json_with_the_id(method: str) -> None:
    headers, body = composed(method=method)
    assert headers.keys() == {"user-agent", "content-type"}
    assert headers["content-type"] == "application/json"
    assert set(json.loads(body)) == {"id", "type", "timestamp", "data"}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_has_no_body_has_no_type(method: str) -> None:
    headers, body = composed(method=method)
    assert (set(headers), body) == ({"user-agent"}, b"")


def test_the_creator_s_words_replace_ours_whatever_their_case() -> None:
    given = {"Content-Type": "text/csv", "USER-agent": "mine", "X": "1"}
    assert composed(headers=given, body=b"") == (given, b"")
    assert composed(headers={}, body=b"5")[0].keys() == {
        "user-agent", "content-type"
    }


def test_nobody_sets_what_is_signed() -> None:
    headers, _ = composed(headers={"Webhook-Id": "1", "TIMER-attempt": "9"})
    assert headers.keys() == {"user-agent", "content-type"}


def test_times_have_six_digits_of_a_second() -> None:
    """Also those of a whole second, for who reads them by position."""
    claim = Claim(
        ClockReading(DUE, 0.0), WebhookRequest(), None, None, uuid4(), uuid4(),
        1, "http://receiver.example/", DUE, DUE, DUE, None,
        connect_failures=0, retry_until=None, attempts=0, claims=1,
        retries=0, called=False,
    )  # fmt: skip
    headers, body = compose(claim, KEYS, DUE)
    found = json.loads(body)
    text = "2026-03-01T00:00:00.000000+00:00"
    assert headers["timer-due-at"] == found["timestamp"] == text
    assert found["data"]["created_at"] == found["data"]["fire_at"] == text


def test_without_a_secret_there_is_no_signature() -> None:
    claim = Claim(
        ClockReading(DUE, 0.0), WebhookRequest(), None, None, uuid4(), uuid4(),
        1, "http://receiver.example/", DUE, DUE, DUE, None,
        connect_failures=0, retry_until=None, attempts=0, claims=1,
        retries=0, called=False,
    )  # fmt: skip
    headers, _ = compose(claim, SigningKeys((), ()), DUE)
    assert OURS - headers.keys() == {"webhook-signature"}

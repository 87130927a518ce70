"""Receivers that verify: the public packages, over the real service."""

import base64
import importlib
import re
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from pytest_django import DjangoDbBlocker

from apps.webhooks.signing import (
    new_secret,
    parse_private_key,
    public_key,
)
from tests.support.receiver import Call, Receiver
from tests.support.service import SECRET, Service
from tests.support.timers import store_timers
from tests.support.waiting import eventually

# Whichever of them are run, there is a database, and it is left empty.
pytestmark = pytest.mark.usefixtures("transactional_db")

PAGE = Path(__file__).resolve().parents[3] / "docs" / "receivers.md"

#: Imported when they are used: it takes as long as many a test.
PACKAGES = ["standardwebhooks", "svix.webhooks"]


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> Any:
    """Return one of the public packages that verify webhooks."""
    return importlib.import_module(request.param)


def new_private_key() -> str:
    """Return what the page's command makes."""
    return f"whsk_{base64.b64encode(secrets.token_bytes(32)).decode()}"


#: Secrets and private keys are being rotated: calls are signed with all.
NEW_SECRET = new_secret()
PRIVATE_KEYS = [new_private_key(), new_private_key()]


@pytest.fixture(scope="module")
def calls(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Call]:
    """Return the calls of twenty timers, as a receiver got them."""
    receiver = Receiver()
    with django_db_blocker.unblock():
        service = Service(
            tmp_path_factory.mktemp("signing"), "",
            WEBHOOK_SECRET=f"{NEW_SECRET}, {SECRET}",
            WEBHOOK_PRIVATE_KEY=", ".join(PRIVATE_KEYS),
        )
        try:
            timers = store_timers(receiver.url(), [0.0] * 20)
            service.start_worker()
            eventually(lambda: len(receiver.calls) == 20)
            assert {call.timer for call in receiver.calls} == timers
        finally:
            service.kill()
            receiver.close()
    return receiver.calls


@pytest.mark.parametrize("secret", [NEW_SECRET, SECRET], ids=["new", "old"])
def test_every_call_is_accepted(
    package: Any, secret: str, calls: list[Call]
) -> None:
    webhook = package.Webhook(secret)
    for call in calls:
        webhook.verify(call.body, call.headers)
        assert call.headers["webhook-id"] == call.timer
        assert call.headers["timer-due-at"] == call.payload["timestamp"]
        assert call.headers["timer-attempt"] == "1"


def later(headers: dict[str, str]) -> dict[str, str]:
    return {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}


@pytest.mark.parametrize(
    ("body", "change", "secret"),
    [
        (b" ", {}, SECRET),
        (b"", {"webhook-id": "another"}, SECRET),
        (b"", later, SECRET),
        (b"", {"webhook-signature": "v1,AAAA"}, SECRET),
        (b"", {"webhook-signature": ""}, SECRET),
        (b"", {}, new_secret()),
    ],
    ids=["body", "id", "timestamp", "signature", "none", "secret"],
)
def test_a_call_that_was_tampered_with_is_refused(
    package: Any,
    body: bytes,
    change: dict[str, str] | Callable[[dict[str, str]], dict[str, str]],
    secret: str,
    calls: list[Call],
) -> None:
    headers = dict(calls[0].headers)
    headers |= change(headers) if callable(change) else change
    with pytest.raises(package.WebhookVerificationError):
        package.Webhook(secret).verify(calls[0].body + body, headers)


@pytest.mark.parametrize(
    ("variable", "secret", "told"),
    [
        ("SECRET", "", "WEBHOOK_SECRET is not set"),
        ("PRIVATE_KEY", SECRET, "WEBHOOK_PRIVATE_KEY must be one or more"),
    ],
)
def test_a_worker_without_good_keys_does_not_start(
    make_service: Callable[..., Service],
    variable: str,
    secret: str,
    told: str,
) -> None:
    service = make_service(**{f"WEBHOOK_{variable}": secret})
    worker = service.start(
        "worker", "-m", "dramatiq", "config.worker", "--processes", "1"
    )
    eventually(lambda: not worker.is_running(), within=30)
    assert worker.stop() != 0
    assert told in worker.output()
    assert not secret or secret not in worker.output()


def test_the_documentation_shows_a_receiver(calls: list[Call]) -> None:
    # Given the page's example, and a call that comes twice
    (example,) = re.findall(
        r"```python\n(from standardwebhooks .+?)```",
        PAGE.read_text(),
        re.DOTALL,
    )
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE seen (id TEXT PRIMARY KEY)")
    acted: list[object] = []
    for _ in range(2):
        exec(example, {
            "secret": SECRET,
            "body": calls[0].body,
            "headers": calls[0].headers,
            "database": database,
            "act": acted.append,
        })

    # Then it is acted upon once
    assert acted == [calls[0].payload]


def test_the_page_shows_a_receiver_with_a_public_key(
    calls: list[Call]
) -> None:
    # Given the page's example
    (example,) = re.findall(
        r"```python\n(from base64 .+?)```", PAGE.read_text(), re.DOTALL
    )
    shown: dict[str, Any] = {}
    exec(example, shown)
    verify = shown["verify"]

    # Then each public key verifies a call that is signed with all keys
    call = calls[0]
    signatures = call.headers["webhook-signature"].split(" ")
    assert [each.split(",")[0] for each in signatures] == (
        ["v1"] * 2 + ["v1a"] * 2
    )
    new_public, old_public, other_public = (
        public_key(parse_private_key(key))
        for key in (*PRIVATE_KEYS, new_private_key())
    )
    for key in (new_public, old_public):
        verify(key, call.headers, call.body)

    # And nothing else passes
    old_time = {"webhook-timestamp": "1614265330"}
    only_v1 = {"webhook-signature": " ".join(signatures[:2])}
    for key, change, body in (
        (other_public, {}, call.body),
        (new_public, {}, call.body + b" "),
        (new_public, {"webhook-id": "another"}, call.body),
        (new_public, later(call.headers), call.body),
        (new_public, old_time, call.body),
        (new_public, only_v1, call.body),
        (new_public, {"webhook-signature": ""}, call.body),
    ):
        with pytest.raises((InvalidSignature, ValueError)):
            verify(key, {**call.headers, **change}, body)

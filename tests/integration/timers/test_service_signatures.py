"""Receivers that verify: the public packages, over the real service."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks

from apps.webhooks.signing import new_secret
from tests.support.receiver import Call, Receiver
from tests.support.service import SECRET, Service
from tests.support.waiting import eventually

# Whichever of them are run, there is a database, and it is left empty.
pytestmark = pytest.mark.django_db(transaction=True)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "receivers.md"

PACKAGES = pytest.mark.parametrize(
    "package", [standardwebhooks, svix.webhooks], ids=["standard", "svix"]
)


@pytest.fixture(scope="module")
def calls(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> list[Call]:
    """Return the calls of twenty timers, as a receiver got them."""
    receiver = Receiver()
    service = Service(tmp_path_factory.mktemp("signing"), "")
    try:
        service.start_all()
        timers = service.set_timers(20, 0, receiver.url())
        eventually(lambda: len(receiver.calls) == 20)
        assert {call.timer for call in receiver.calls} == timers
    finally:
        service.kill()
        receiver.close()
    return receiver.calls


@PACKAGES
def test_every_call_is_accepted(package: Any, calls: list[Call]) -> None:
    webhook = package.Webhook(SECRET)
    for call in calls:
        webhook.verify(call.body, call.headers)
        assert call.headers["webhook-id"] == call.timer
        assert call.headers["timer-due-at"] == call.payload["timestamp"]
        assert call.headers["timer-attempt"] == "1"


def later(headers: dict[str, str]) -> dict[str, str]:
    return {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}


@PACKAGES
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


@PACKAGES
def test_while_secrets_rotate_old_and_new_are_accepted(
    package: Any, receiver: Receiver, make_service: Callable[..., Service]
) -> None:
    new, old = new_secret(), new_secret()
    service = make_service(WEBHOOK_SECRET=f"{new}, {old}")
    service.start_all()
    service.set_timer(0, receiver.url())
    eventually(lambda: receiver.calls)
    (call,) = receiver.calls
    for secret in (new, old):
        package.Webhook(secret).verify(call.body, call.headers)
    with pytest.raises(package.WebhookVerificationError):
        package.Webhook(new_secret()).verify(call.body, call.headers)


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("", "WEBHOOK_SECRET is not set"),
        (SECRET[:-1], "WEBHOOK_SECRET must be one or more"),
    ],
)
def test_a_worker_without_a_good_secret_does_not_start(
    make_service: Callable[..., Service], secret: str, told: str
) -> None:
    service = make_service(WEBHOOK_SECRET=secret)
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

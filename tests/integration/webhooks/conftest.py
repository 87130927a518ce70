"""Fixtures for calls to receivers on this machine."""

import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from apps.webhooks.client import Policy, Result, WebhookClient
from apps.webhooks.target import parse_target

Call = Callable[..., Result]

LOCAL = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.fixture
def client() -> Iterator[WebhookClient]:
    client = WebhookClient(Policy(LOCAL))
    yield client
    client.close()


@pytest.fixture
def call(client: WebhookClient) -> Call:
    """Call a URL with a client; seconds are left from now on."""

    def call(
        url: str,
        *,
        seconds: float = 5.0,
        client: WebhookClient = client,
        **options: Any,
    ) -> Result:
        options.setdefault("headers", {"user-agent": "tests"})
        options.setdefault("body", b'{"id": 1}')
        return client.call(
            parse_target(url), deadline=time.monotonic() + seconds, **options
        )

    return call

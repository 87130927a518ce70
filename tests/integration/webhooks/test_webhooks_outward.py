"""Outward only: what is refused, when a timer is set and when it is called.

All the while somebody listens on both loopback addresses, and every
connection that this process tries is noted.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence

import pytest
from django.test import Client
from pytest_django import Settings

from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.results import FailureKind, Result
from apps.webhooks.target import InvalidURL, parse_target
from tests.support.inward import (
    ADDRESSES,
    SPELLINGS,
    URLS,
    Listeners,
    listeners,
)

Call = Callable[..., Result]

BODY = {"hours": 0, "minutes": 0, "seconds": 5}


@pytest.fixture(scope="module")
def watched() -> Iterator[Listeners]:
    with listeners() as watched:
        yield watched


@pytest.fixture(autouse=True)
def nobody_gets_in(watched: Listeners, settings: Settings) -> Iterator[None]:
    """Allow no network; let no test connect to, or look up, anything."""
    settings.WEBHOOK_ALLOWED_NETWORKS = ()
    watched.connected.clear()
    yield
    assert watched.connected == []
    assert watched.accepted() == []


def create(url: str) -> tuple[int, str]:
    """Set a timer; return the answer's status, and its one message."""
    answer = Client().post(
        "/timer", json.dumps({**BODY, "url": url}), "application/json"
    )
    (error,) = answer.json()["errors"]
    assert error["field"] == "url"
    return answer.status_code, error["message"]


def nobody_asks(host: str) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up")


@pytest.fixture(scope="module")
def direct() -> WebhookClient:
    return WebhookClient(Policy(), nobody_asks)


@pytest.fixture(scope="module")
def proxied(watched: Listeners) -> WebhookClient:
    proxy = f"http://127.0.0.1:{watched.ports[0]}"
    return WebhookClient(Policy(proxy=proxy), nobody_asks)


def is_blocked(result: Result) -> bool:
    return (result.failure, result.sent) == (FailureKind.blocked, False)


def test_the_table_is_long_enough() -> None:
    assert len(set(URLS)) + len(set(SPELLINGS)) >= 250


def test_what_leads_inwards_is_refused_when_set_and_when_called(
    watched: Listeners,
    direct: WebhookClient,
    proxied: WebhookClient,
    call: Call,
) -> None:
    assert FailureKind.blocked.unsent
    asked: list[bool] = []
    for url in URLS:
        inward = url.replace("PORT", str(watched.ports[len(url) % 4]))

        status, message = create(inward)
        assert status == 422, url
        assert "WEBHOOK_ALLOWED_NETWORKS" in message, url

        # A proxy is not asked for it either.
        for client in (direct, proxied):
            result = call(
                inward, client=client,
                before_send=lambda: asked.append(True),
            )
            assert is_blocked(result), url
    assert not asked


def test_a_spelling_that_others_may_read_as_inward_is_refused(
    watched: Listeners
) -> None:
    for url in SPELLINGS:
        inward = url.replace("PORT", str(watched.ports[0]))

        status, message = create(inward)
        assert status == 422, url
        assert "WEBHOOK_ALLOWED_NETWORKS" not in message, url
        with pytest.raises(InvalidURL):
            parse_target(inward)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_public_name_that_leads_inwards_is_not_dialled(
    scheme: str, watched: Listeners, call: Call
) -> None:
    for address in ADDRESSES:
        addresses = [address, "::1", address]
        client = WebhookClient(Policy(), lambda host: addresses)  # noqa: B023
        for port in watched.ports:
            url = f"{scheme}://hook.example.com:{port}/"
            assert is_blocked(call(url, client=client)), address


def test_a_name_is_looked_up_once_for_each_time_it_is_dialled(
    watched: Listeners, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first answer is good for, a second one can't be used for."""
    monkeypatch.setattr("apps.webhooks.resolver.CACHE_SECONDS", 0.0)
    answers = itertools.cycle([["10.0.0.1"], ["127.0.0.1"], ["::1"]])
    asked: list[str] = []

    def lookup(host: str) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    client = WebhookClient(Policy(), lookup)
    url = f"http://rebound.example.com:{watched.ports[0]}/"
    details = [call(url, client=client).detail for _ in range(6)]

    assert len(asked) == 6
    assert details == [
        f"{address} is not a public address"
        for address in ("10.0.0.1", "127.0.0.1", "::1")
    ] * 2  # fmt: skip

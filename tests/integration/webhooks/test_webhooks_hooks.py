"""What a caller gives to a call: hooks, headers, settings, environment."""

import ssl
import threading
import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from apps.webhooks.client import Abort, Policy, WebhookClient
from apps.webhooks.results import FailureKind, Result
from tests.support.receiver import OK, Connection, answering, scripted

Call = Callable[..., Result]

HEAD = b"HTTP/1.1 200 OK\r\n"


def test_the_hooks_come_in_order(call: Call) -> None:
    events: list[str] = []

    def script(connection: Connection) -> None:
        events.append("connected")
        connection.read_request()
        events.append("request")
        # on_sent has been called before the answer can be read.
        connection.sock.sendall(OK)

    with scripted(script) as server:

        def before_send() -> None:
            deadline = time.monotonic() + 5
            while not events and time.monotonic() < deadline:
                time.sleep(0.001)
            events.append("before_send")

        result = call(
            server.url(),
            before_send=before_send,
            on_sent=lambda: events.append("on_sent"),
        )

    assert result.status_code == 200
    assert events[:2] == ["connected", "before_send"]
    assert sorted(events[2:]) == ["on_sent", "request"]


def test_a_hook_that_refuses_keeps_every_byte_back(call: Call) -> None:
    def refuse() -> None:
        raise Abort("the lease has ended\n")

    seen: list[bytes] = []
    done = threading.Event()

    def script(connection: Connection) -> None:
        seen.append(connection.sock.recv(65536))
        done.set()

    sent: list[bool] = []
    with scripted(script) as server:
        result = call(
            server.url(),
            before_send=refuse,
            on_sent=lambda: sent.append(True),
        )
        assert done.wait(5)

    assert (result.failure, result.sent) == (FailureKind.aborted, False)
    assert result.failure == "aborted"
    assert result.failure.unsent
    assert result.detail == "the lease has ended?"
    assert seen == [b""]
    assert not sent


def test_the_address_may_be_refused_before_it_is_connected_to(
    call: Call,
) -> None:
    asked: list[str] = []

    def refuse(address: str) -> None:
        asked.append(address)
        raise Abort("it has enough")

    with scripted(answering()) as server:
        result = call(server.url(), before_dial=refuse)
        assert server.accepted == 0

    assert asked == ["127.0.0.1"]
    assert (result.failure, result.sent) == (FailureKind.aborted, False)
    assert not result.hung


@pytest.mark.parametrize("name", ["before_dial", "before_send", "on_sent"])
def test_what_else_a_hook_raises_is_raised(call: Call, name: str) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with scripted(answering()) as server:
        hooks: dict[str, Any] = {name: fail}
        with pytest.raises(ZeroDivisionError, match="a bug"):
            call(server.url(), **hooks)

        # And the connection is not used again
        assert call(server.url()).status_code == 200
        assert server.accepted == (1 if name == "before_dial" else 2)


def test_a_detail_is_bounded(call: Call) -> None:
    def refuse() -> None:
        raise Abort("x" * 1000)

    with scripted(answering()) as server:
        result = call(server.url(), before_send=refuse)

    assert result.detail == "x" * 200


def test_a_hook_that_takes_too_long_keeps_every_byte_back(call: Call) -> None:
    with scripted(answering()) as server:
        result = call(
            server.url(), seconds=0.1, before_send=lambda: time.sleep(0.2)
        )

    assert (result.failure, result.sent) == (FailureKind.aborted, False)
    assert not server.requests


def test_proxies_of_the_environment_are_ignored(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")

    with scripted(answering()) as server:
        assert call(server.url()).status_code == 200


def test_cookies_are_not_kept(call: Call) -> None:
    answer = HEAD + b"Set-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    with scripted(answering(answer)) as server:
        call(server.url())
        call(server.url())

    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1].lower()


def test_a_header_that_would_split_the_request_raises(call: Call) -> None:
    with scripted(answering()) as server:
        for value in ("a\r\nb: c", "a\nb", "\u20ac"):
            with pytest.raises(ValueError):  # noqa: PT011
                call(server.url(), headers={"x": value})

    assert not server.requests


def test_settings_make_the_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django.conf import settings as django_settings

    from apps.webhooks.client import from_settings

    network = ip_network("10.0.0.0/8")
    monkeypatch.setattr(
        django_settings, "WEBHOOK_ALLOWED_NETWORKS", (network,)
    )
    monkeypatch.setattr(django_settings, "WEBHOOK_PROXY", "http://proxy:3128")
    monkeypatch.setenv("SSL_CERT_FILE", "/ca.pem")

    assert from_settings() == Policy(
        (network,), "http://proxy:3128", "/ca.pem"
    )


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize(
    ("pause", "told"), [(0.0, []), (0.3, [200]), (None, [200])]
)
def test_a_status_is_told_if_the_body_is_slow(
    call: Call,
    trusting: WebhookClient,
    server_tls: ssl.SSLContext,
    with_tls: bool,
    pause: float | None,
    told: list[int],
) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(HEAD + b"content-length: 2\r\n\r\n")
        connection.stopping.wait(5 if pause is None else pause)
        connection.sock.sendall(b"ok")

    seen: list[int] = []
    tls = server_tls if with_tls else None
    with scripted(script, tls=tls) as server:
        result = call(
            server.url(), client=trusting, on_answer=seen.append
        )
    assert (result.status_code, seen) == (200, told)
    assert result.body == (b"" if pause is None else b"ok")

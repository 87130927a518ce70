"""Calls over TLS: whom they trust, how they resume, by when they end."""

import ssl
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.results import FailureKind, Result
from tests.support.receiver import (
    OK,
    Connection,
    answering,
    dripping,
    hanging,
    scripted,
)
from tests.support.waiting import PATIENCE

Call = Callable[..., Result]

LOCAL = (ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize("host", ["127.0.0.1", "a.example", "A.Example."])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_trusted_receiver_is_called(
    call: Call,
    trusting: WebhookClient,
    server_tls: ssl.SSLContext,
    host: str,
    version: str,
) -> None:
    server_tls.maximum_version = ssl.TLSVersion[version]
    with scripted(answering(), tls=server_tls) as server:
        for _ in range(3):
            result = call(
                f"https://{host}:{server.port}/a%2f|", client=trusting
            )
            assert (result.status_code, result.body) == (200, b"ok")
            assert result.sent

    assert server.requests[0].startswith(b"POST /a%2f| HTTP/1.1\r\n")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_new_connection_resumes_the_session(
    call: Call,
    trusting: WebhookClient,
    server_tls: ssl.SSLContext,
    version: str,
) -> None:
    server_tls.maximum_version = ssl.TLSVersion[version]
    with scripted(answering(times=1), tls=server_tls) as server:
        for _ in range(4):
            assert call(server.url(), client=trusting).status_code == 200
            time.sleep(0.06)

    assert server.accepted == 4
    assert server.resumed == 3


def test_a_connection_serves_again(
    call: Call,
    trusting: WebhookClient,
    server_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apps.webhooks.http.idle.MIN_IDLE_SECONDS", 0.0)
    with scripted(answering(), tls=server_tls) as server:
        for _ in range(10):
            assert call(server.url(), client=trusting).status_code == 200

    assert server.accepted == 1


def refused_by_tls(result: Result, hint: str) -> None:
    assert (result.failure, result.sent) == (FailureKind.tls, False)
    assert FailureKind.tls.unsent
    assert hint in result.detail.lower()


def test_an_unknown_certificate_is_refused(
    call: Call, server_tls: ssl.SSLContext
) -> None:
    asked: list[bool] = []
    with scripted(answering(), tls=server_tls) as server:
        result = call(server.url(), before_send=lambda: asked.append(True))

    refused_by_tls(result, "certificate verify failed")
    assert not asked
    assert not server.requests


def test_another_host_s_certificate_is_refused(
    call: Call, trusting: WebhookClient, server_tls: ssl.SSLContext
) -> None:
    """Also if a session of the same address could be resumed."""
    with scripted(answering(times=1), tls=server_tls) as server:
        good = call(f"https://a.example:{server.port}/", client=trusting)
        bad = call(f"https://b.example:{server.port}/", client=trusting)

    assert good.status_code == 200
    refused_by_tls(bad, "hostname mismatch")
    assert len(server.requests) == 1


def test_a_receiver_without_tls_is_refused(
    call: Call, trusting: WebhookClient
) -> None:
    def script(connection: Connection) -> None:
        connection.sock.recv(65536)
        connection.sock.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")

    with scripted(script) as server:
        url = f"https://127.0.0.1:{server.port}/"
        refused_by_tls(call(url, client=trusting), "ssl")


def test_a_reset_in_the_handshake(call: Call, trusting: WebhookClient) -> None:
    """It may come so early that connecting fails."""
    asked: list[bool] = []
    with scripted(Connection.reset) as server:
        result = call(
            f"https://127.0.0.1:{server.port}/",
            client=trusting,
            before_send=lambda: asked.append(True),
        )

    assert result.failure in (FailureKind.tls, FailureKind.refused)
    assert not result.sent
    assert not asked


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_receiver_that_wants_a_client_certificate(
    call: Call,
    trusting: WebhookClient,
    certificate: Path,
    server_tls: ssl.SSLContext,
    version: str,
) -> None:
    """With TLS 1.3 it says so only after the request has left."""
    server_tls.maximum_version = ssl.TLSVersion[version]
    server_tls.load_verify_locations(certificate)
    server_tls.verify_mode = ssl.CERT_REQUIRED
    with scripted(answering(), tls=server_tls) as server:
        result = call(server.url(), client=trusting)

    refused_by_tls(result, "alert")
    assert not server.requests


def test_the_handshake_ends_by_the_deadline(
    call: Call, trusting: WebhookClient
) -> None:
    def script(connection: Connection) -> None:
        connection.stopping.wait(30)

    with scripted(script) as server:
        url = f"https://127.0.0.1:{server.port}/"
        result = call(url, client=trusting, seconds=0.4)

    refused_by_tls(result, "not done in time")
    assert 0.3 <= result.duration < 1.5 * PATIENCE


def test_a_slow_handshake_has_the_time_that_is_left(
    call: Call, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    """It is not bound by what one address of several has to connect."""

    def script(connection: Connection) -> None:
        connection.stopping.wait(1.6)
        with server_tls.wrap_socket(connection.sock, server_side=True) as tls:
            connection.sock = tls
            answering()(connection)

    client = WebhookClient(
        Policy(LOCAL, ca_file=str(certificate.with_name("certificate.pem"))),
        lambda host: ["127.0.0.1", "127.0.0.2"],
    )
    with scripted(script) as server:
        url = f"https://a.example:{server.port}/"
        result = call(url, client=client, seconds=3.0)
        client.close()

    assert result.status_code == 200


@pytest.mark.parametrize(
    ("script", "failure", "status"),
    [
        (hanging, FailureKind.timeout, None),
        (dripping(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), FailureKind.timeout,
         None),
        (dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), None, 200),
    ],
)  # fmt: skip
def test_the_deadline_ends_what_drips_or_hangs(
    call: Call,
    trusting: WebhookClient,
    server_tls: ssl.SSLContext,
    script: Callable[[Connection], None],
    failure: FailureKind | None,
    status: int | None,
) -> None:
    with scripted(script, tls=server_tls) as server:
        result = call(server.url(), client=trusting, seconds=0.5)

    assert (result.failure, result.status_code) == (failure, status)
    assert 0.4 <= result.duration < 1.5 * PATIENCE


def test_a_receiver_that_takes_nothing_is_given_up(
    call: Call, trusting: WebhookClient, server_tls: ssl.SSLContext
) -> None:
    def script(connection: Connection) -> None:
        connection.stopping.wait(30)

    with scripted(script, tls=server_tls) as server:
        result = call(
            server.url(),
            client=trusting,
            seconds=0.5,
            body=b"x" * 20_000_000,
        )

    assert (result.failure, result.sent) == (FailureKind.timeout, False)
    assert 0.4 <= result.duration < 1.5 * PATIENCE


def test_a_receiver_that_takes_little_by_little_is_given_up(
    call: Call, trusting: WebhookClient, server_tls: ssl.SSLContext
) -> None:
    def script(connection: Connection) -> None:
        while not connection.stopping.wait(0.002):
            connection.sock.recv(16_384)

    with scripted(script, tls=server_tls) as server:
        result = call(
            server.url(),
            client=trusting,
            seconds=0.5,
            body=b"x" * 50_000_000,
        )

    assert (result.failure, result.sent) == (FailureKind.timeout, False)
    assert 0.4 <= result.duration < 1.5 * PATIENCE


def test_an_endless_body_is_left_unread(
    call: Call, trusting: WebhookClient, server_tls: ssl.SSLContext
) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sock.sendall(b"x" * 100_000)

    with scripted(script, tls=server_tls) as server:
        result = call(server.url(), client=trusting)

    assert result.status_code == 200
    assert result.duration < 1.5 * PATIENCE


def test_what_the_receiver_read_is_not_sent_again(
    call: Call,
    trusting: WebhookClient,
    server_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apps.webhooks.http.idle.MIN_IDLE_SECONDS", 0.0)

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(OK)
        connection.read_request()

    with scripted(script, tls=server_tls) as server:
        call(server.url(), client=trusting)
        result = call(server.url(), client=trusting)

    assert (result.failure, result.sent) == (FailureKind.stale, True)
    assert len(server.requests) == 2


def test_a_missing_ca_file_raises() -> None:
    with pytest.raises(OSError, match="No such file"):
        WebhookClient(Policy(ca_file="/nonexistent.pem"))

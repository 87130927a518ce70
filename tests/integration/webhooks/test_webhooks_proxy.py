"""Calls through an egress proxy."""

import socket
import ssl
import threading
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.results import FailureKind, Result
from apps.webhooks.target import InvalidURL
from tests.support.receiver import (
    Connection,
    answering,
    dripping,
    scripted,
)
from tests.support.waiting import PATIENCE

Call = Callable[..., Result]


def client_through(port: int, ca_file: str | None = None) -> WebhookClient:
    return WebhookClient(
        Policy(
            (ip_network("192.168.0.0/16"),),
            proxy=f"http://proxy.example:{port}",
            ca_file=ca_file,
        ),
        {"proxy.example": ["127.0.0.1"]}.__getitem__,
    )


def tunnel(port: int) -> Callable[[Connection], None]:
    """Be a proxy that leads every CONNECT to a local port."""

    def script(connection: Connection) -> None:
        connection.read_request()
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            connection.sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(
                target=pump, args=(upstream, connection.sock), daemon=True
            )
            back.start()
            pump(connection.sock, upstream)
            back.join(5)

    return script


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_http_goes_through_in_absolute_form(call: Call) -> None:
    """The proxy resolves the name: nobody here knows it."""
    with scripted(answering()) as proxy:
        client = client_through(proxy.port)
        result = call("http://a.example:81/%2f?|#x", client=client)

    assert result.status_code == 200
    line, host, _ = proxy.requests[0].split(b"\r\n", 2)
    assert line == b"POST http://a.example:81/%2f?| HTTP/1.1"
    assert host == b"Host: a.example:81"


def test_https_goes_through_a_tunnel(
    call: Call,
    server_tls: ssl.SSLContext,
    certificate: Path,
) -> None:
    ca_file = str(certificate.with_name("certificate.pem"))
    asked: list[bool] = []
    with scripted(answering(), tls=server_tls) as server:
        with scripted(tunnel(server.port)) as proxy:
            client = client_through(proxy.port, ca_file)
            result = call(
                "https://a.example/%2f|",
                client=client,
                before_send=lambda: asked.append(bool(server.accepted)),
            )
            client.close()

    assert result.status_code == 200
    assert proxy.requests[0].startswith(b"CONNECT a.example:443 HTTP/1.")
    assert server.requests[0].startswith(b"POST /%2f| HTTP/1.1\r\n")
    assert asked == [True]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_a_proxy_that_gives_no_tunnel(call: Call, answer: bytes) -> None:
    with scripted(answering(answer, times=1)) as proxy:
        client = client_through(proxy.port)
        result = call("https://a.example/", client=client)

    assert (result.failure, result.sent) == (FailureKind.proxy, False)
    assert FailureKind.proxy.unsent


def test_a_proxy_that_drips_is_given_up_at_the_deadline(call: Call) -> None:
    with scripted(dripping(b"HTTP/1.1 2", b"0")) as proxy:
        client = client_through(proxy.port)
        result = call("https://a.example/", client=client, seconds=0.4)

    assert (result.failure, result.sent) == (FailureKind.proxy, False)
    assert 0.3 <= result.duration < 1.5 * PATIENCE


def test_a_proxy_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidURL):
        WebhookClient(Policy(proxy="socks5://proxy:1080"))

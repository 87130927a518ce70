"""Fixtures for calls to receivers on this machine."""

import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from apps.webhooks.client import Policy, WebhookClient
from apps.webhooks.results import Result
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


def make_certificate(directory: Path, names: str) -> Path:
    """Make a self-signed certificate, its key in the same file."""
    path = directory / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
         "-days", "2", "-subj", "/CN=tests", "-addext",
         f"subjectAltName={names}", "-keyout", str(path),
         "-out", str(directory / "certificate.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    with path.open("a") as file:
        file.write((directory / "certificate.pem").read_text())
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(
        tmp_path_factory.mktemp("tls"), "DNS:a.example,IP:127.0.0.1"
    )


@pytest.fixture
def trusting(certificate: Path) -> Iterator[WebhookClient]:
    ca_file = str(certificate.with_name("certificate.pem"))
    client = WebhookClient(
        Policy(LOCAL, ca_file=ca_file), lambda host: ["127.0.0.1"]
    )
    yield client
    client.close()


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context

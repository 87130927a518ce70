"""Connection parameters: bounded, verified, and discreet."""

from __future__ import annotations

import logging
import ssl

import certifi
import pytest
from pika import PlainCredentials

from apps.broker.connection import (
    TCP_OPTIONS,
    connection_parameters,
    one_line,
    outage_of,
)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://guest:guest@127.0.0.1:5672/%2F",
        "amqp://u:p@[::1]:5672/timers?heartbeat=600&socket_timeout=60"
        "&stack_timeout=60&connection_attempts=5&tcp_options={}",
        "amqps://u:p@broker.example/timers",
    ],
)
def test_connections_are_bounded_whatever_the_url_says(url: str) -> None:
    parameters = connection_parameters(url)
    assert parameters.heartbeat == 30
    assert parameters.socket_timeout == 2
    assert parameters.stack_timeout == 2
    assert parameters.connection_attempts == 1
    assert parameters.tcp_options == TCP_OPTIONS


def test_the_url_is_read() -> None:
    parameters = connection_parameters("amqp://us%40r:p%2Fw@host:1234/a%2Fb")
    assert (parameters.host, parameters.port) == ("host", 1234)
    assert parameters.virtual_host == "a/b"
    assert parameters.credentials == PlainCredentials("us@r", "p/w")
    assert parameters.ssl_options is None


@pytest.mark.parametrize(
    ("query", "authorities"),
    [
        ("", None),
        (f"?cacertfile={certifi.where()}", "many"),
        (f"?heartbeat=10&cacertfile={certifi.where()}", "many"),
    ],
)
def test_tls_checks_certificates_and_names(
    query: str, authorities: str | None
) -> None:
    parameters = connection_parameters(f"amqps://u:p@broker.example/{query}")
    assert parameters.ssl_options is not None
    context = parameters.ssl_options.context
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    if authorities:
        assert context.cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize(
    "url",
    [
        "amqp://user:se/cret@host/",
        "amqp://user:se#cret@host/",
        "http://user:secret@host/",
        "amqp://user:secret@host:port/",
        "amqp://user:secret@host/?heartbeat=secret",
        "amqp://user:secret@host/?unknown=secret",
        "amqp://secret@host/",
        "amqp://user:secret@[host/",
        "amqps://user:secret@host/?ssl_options=secret(",
        "amqps://user:secret@host/?cacertfile=/nowhere/ca.pem",
        "amqp://user:secret@host/?cacertfile=/etc/ca.pem",
    ],
)
def test_no_error_repeats_the_url(url: str) -> None:
    with pytest.raises(ValueError, match="RABBITMQ_URL") as caught:
        connection_parameters(url)
    error = caught.value
    assert "cret" not in str(error)
    assert error.__suppress_context__ or error.__context__ is None


def test_an_outage_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    outage = outage_of("publishing")
    with caplog.at_level(logging.INFO, "apps"):
        outage.worked()
        for _ in range(5):
            outage.failed(one_line(ConnectionRefusedError("refused\n again")))
        outage.worked()
        outage.worked()
    assert [
        (record.getMessage(), vars(record)["for"])
        for record in caplog.records
    ] == [
        ("RabbitMQ is away, trying on", "publishing"),
        ("RabbitMQ is back", "publishing"),
    ]
    assert "refused" in vars(caplog.records[0])["error"]

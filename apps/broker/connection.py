"""How every connection to RabbitMQ is made, and how its loss is told."""

from __future__ import annotations

import random
import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pika

from apps.core.outages import Outage

#: Bounds of a connection, in seconds. In a black hole, pika's stack_timeout
#: ends the attempt: it covers TCP, TLS and AMQP together.
HEARTBEAT = 30
CONNECT_SECONDS = 2.0

#: These end a connection within about 10 s once packets no longer get
#: through; heartbeats take longer. The units are seconds, seconds, a count
#: and milliseconds. pika leaves out what the platform lacks.
TCP_OPTIONS = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 8000,
}


def connection_parameters(url: str) -> pika.URLParameters:
    """Return bounded connection parameters from an AMQP URL.

    ``amqps://`` checks the server's certificate and host name against the
    system's certificates, or against the file that ``?cacertfile=`` names
    (RabbitMQ's own word: www.rabbitmq.com/docs/uri-query-parameters). pika's
    other query parameters work, except for the bounds.

    Raises ValueError. Its text holds no part of the URL, which has a
    password.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("amqp", "amqps"):
            raise ValueError(parts.scheme)
        query = dict(parse_qsl(parts.query))
        ca_file = query.pop("cacertfile", None)
        parameters = pika.URLParameters(
            urlunsplit(parts._replace(query=urlencode(query)))
        )
    except (TypeError, ValueError, AttributeError, OSError, SyntaxError):
        raise ValueError(
            "RABBITMQ_URL is not a valid AMQP URL, such as "
            "amqp://user:password@host:5672/vhost, with each special "
            "character of the password percent-encoded."
        ) from None
    if ca_file is not None:
        if parts.scheme != "amqps":
            raise ValueError("RABBITMQ_URL: cacertfile needs amqps://.")
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ValueError(
                f"RABBITMQ_URL: cacertfile can't be read: {error}"
            ) from None
        parameters.ssl_options = pika.SSLOptions(context)
    parameters.connection_attempts = 1
    parameters.heartbeat = HEARTBEAT
    parameters.socket_timeout = CONNECT_SECONDS
    parameters.stack_timeout = CONNECT_SECONDS
    parameters.tcp_options = TCP_OPTIONS
    return parameters


def retry_pause() -> float:
    """Return how long to wait before the next attempt, in seconds."""
    return random.uniform(0.5, 1.0)


def outage_of(what: str) -> Outage:
    """Return the outage of a connection that is for `what`."""
    return Outage(
        "RabbitMQ is away, trying on", "RabbitMQ is back", **{"for": what}
    )


def one_line(reason: object) -> str:
    """Return a reason in one line; pika's str() often says nothing."""
    text = reason if isinstance(reason, str) else repr(reason)
    return " ".join(text.split())[:300]

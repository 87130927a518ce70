"""RabbitMQ for tests: its management API, and a bad line to it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import pika

from tests.support.line import BadLine
from tests.support.waiting import eventually


class Management:
    """RabbitMQ's management API, for one virtual host."""

    def __init__(self, url: str, vhost: str) -> None:
        parts = urlsplit(url)
        self.user = parts.username or ""
        self.vhost = vhost
        credentials = f"{parts.username}:{parts.password}"
        self._authorization = b64encode(credentials.encode()).decode()
        self._base = f"{parts.scheme}://{parts.hostname}:{parts.port}/api"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request; `{vhost}` in the path is the virtual host."""
        request = urllib.request.Request(
            self._base + path.replace("{vhost}", self.vhost),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": f"Basic {self._authorization}",
                "content-type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def create_vhost(self, user: str, default_type: str = "classic") -> None:
        """Make the virtual host, for a user who may do everything there."""
        # RabbitMQ 3.10 spells the name without underscores.
        kind = dict.fromkeys(
            ("default_queue_type", "defaultqueuetype"), default_type
        )
        self.call("PUT", "/vhosts/{vhost}", kind)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call("PUT", f"/permissions/{{vhost}}/{user}", everything)

    def delete_queue(self, name: str) -> None:
        """Delete a queue with what is in it."""
        self.call("DELETE", f"/queues/{{vhost}}/{name}")

    def purge(self, name: str) -> None:
        """Empty a queue, but for what consumers have in hand."""
        self.call("DELETE", f"/queues/{{vhost}}/{name}/contents")

    def queues(self) -> dict[str, dict[str, Any]]:
        """Return the queues by name; their depths are seconds old."""
        return {q["name"]: q for q in self.call("GET", "/queues/{vhost}")}

    def empty_queues(self, url: str) -> None:
        """Empty all queues of this virtual host, whose AMQP URL is given.

        A consumer that was killed gives back first what it has in hand.
        """
        with closing(pika.BlockingConnection(pika.URLParameters(url))) as link:
            channel = link.channel()

            def is_empty(name: str) -> bool:
                found = channel.queue_declare(name, passive=True).method
                if found.message_count:
                    channel.queue_purge(name)
                return not found.consumer_count and not found.message_count

            # Rungs come first, since their messages end in the others.
            for name in sorted(self.queues()):
                eventually(partial(is_empty, name))

    def connections(self) -> list[str]:
        """Return the names of the open connections."""
        found = self.call("GET", "/vhosts/{vhost}/connections")
        return [connection["name"] for connection in found]

    def close_connections(self) -> int:
        """Close every connection from RabbitMQ's side; count them."""
        closed = 0
        for name in self.connections():
            with suppress(urllib.error.HTTPError):
                self.call("DELETE", f"/connections/{quote(name)}")
                closed += 1
        return closed


@contextmanager
def virtual_host(
    url: str, management_url: str = "", default_type: str = "classic"
) -> Iterator[tuple[str, Management]]:
    """Make a virtual host; give its AMQP URL and its management API."""
    parts = urlsplit(url)
    found = management_url or os.environ.get("RABBITMQ_MANAGEMENT_URL")
    api = Management(
        found
        or f"http://{parts.username}:{parts.password}@{parts.hostname}:15672",
        f"test-{uuid4().hex[:12]}",
    )
    api.create_vhost(parts.username or "", default_type)
    try:
        yield urlunsplit(parts._replace(path=f"/{api.vhost}")), api
    finally:
        api.call("DELETE", "/vhosts/{vhost}")


class Proxy(BadLine):
    """A bad line to the RabbitMQ at `url`; its own URL is without TLS."""

    def __init__(
        self, url: str, context: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        upstream = (parts.hostname, parts.port)
        super().__init__(lambda: socket.create_connection(upstream), context)
        user = f"{parts.username}:{parts.password}"
        self.url = f"amqp://{user}@127.0.0.1:{self.port}{parts.path}"

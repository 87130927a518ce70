"""A real RabbitMQ, a virtual host for each test, and a proxy that fails."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import pytest
from dramatiq import Message

from apps.broker.rabbitmq import LadderBroker


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    return os.environ["RABBITMQ_URL"]


class Management:
    """RabbitMQ's management API, for one virtual host."""

    def __init__(self, url: str, vhost: str) -> None:
        parts = urlsplit(url)
        self.user = parts.username or ""
        credentials = f"{parts.username}:{parts.password}"
        self._authorization = b64encode(credentials.encode()).decode()
        self._base = f"{parts.scheme}://{parts.hostname}:{parts.port}/api"
        self._vhost = vhost

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._base + path.replace("{vhost}", self._vhost),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": f"Basic {self._authorization}",
                "content-type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def create_vhost(self, user: str, default_type: str = "classic") -> None:
        # RabbitMQ 3.10 spells the name without underscores.
        kind = dict.fromkeys(
            ("default_queue_type", "defaultqueuetype"), default_type
        )
        self.call("PUT", "/vhosts/{vhost}", kind)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call("PUT", f"/permissions/{{vhost}}/{user}", everything)

    def delete_queue(self, name: str) -> None:
        self.call("DELETE", f"/queues/{{vhost}}/{name}")

    def queues(self) -> dict[str, dict[str, Any]]:
        return {q["name"]: q for q in self.call("GET", "/queues/{vhost}")}

    def connections(self) -> list[str]:
        found = self.call("GET", "/vhosts/{vhost}/connections")
        return [connection["name"] for connection in found]

    def close_connections(self) -> None:
        for name in self.connections():
            with suppress(urllib.error.HTTPError):
                self.call("DELETE", f"/connections/{quote(name)}")


@pytest.fixture
def management(rabbitmq_url: str) -> Iterator[Management]:
    """Make a virtual host of the test's own."""
    parts = urlsplit(rabbitmq_url)
    url = os.environ.get("RABBITMQ_MANAGEMENT_URL") or (
        f"http://{parts.username}:{parts.password}@{parts.hostname}:15672"
    )
    api = Management(url, f"test-{uuid4().hex[:12]}")
    api.create_vhost(parts.username or "")
    yield api
    api.call("DELETE", "/vhosts/{vhost}")


@pytest.fixture
def url(rabbitmq_url: str, management: Management) -> str:
    """Return the virtual host's AMQP URL."""
    parts = urlsplit(rabbitmq_url)._replace(path=f"/{management._vhost}")
    return urlunsplit(parts)


@pytest.fixture
def make_broker() -> Iterator[Callable[..., LadderBroker]]:
    made: list[LadderBroker] = []

    def make(url: str, queue_type: str = "classic") -> LadderBroker:
        made.append(LadderBroker(url, queue_type=queue_type))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def broker(
    url: str, make_broker: Callable[..., LadderBroker]
) -> LadderBroker:
    return make_broker(url)


@pytest.fixture
def make_proxy(url: str) -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(context: ssl.SSLContext | None = None) -> Proxy:
        made.append(Proxy(url, context))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def proxy(make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy()


@dataclass
class Received:
    """What a consumer got, and when."""

    keys: list[Any]
    times: list[float]


class Proxy:
    """A TCP proxy before RabbitMQ that can swallow everything."""

    def __init__(
        self, url: str, context: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname, parts.port)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        user = f"{parts.username}:{parts.password}"
        self.url = f"amqp://{user}@127.0.0.1:{port}{parts.path}"
        #: How many connections there have been.
        self.accepted = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def black_hole(self) -> None:
        """From now on nothing gets through, in either direction."""
        self._flowing.clear()

    def restore(self) -> None:
        self._flowing.set()

    def send_to_clients(self, data: bytes) -> None:
        """Say something in RabbitMQ's name."""
        for client in self._clients:
            client.sendall(data)

    def close(self) -> None:
        self._flowing.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(
                target=self._serve, args=(client,), daemon=True
            ).start()

    def _serve(self, client: socket.socket) -> None:
        self._sockets.append(client)
        if self._context is not None:
            try:
                client = self._context.wrap_socket(client, server_side=True)
            except OSError:
                return
        self._flowing.wait()
        upstream = socket.create_connection(self._upstream)
        self._sockets += [client, upstream]
        self._clients.append(client)
        threading.Thread(
            target=self._pump, args=(client, upstream), daemon=True
        ).start()
        self._pump(upstream, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
        self._flowing.wait()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def new_message(key: Any, queue: str = "timers") -> Message[Any]:
    return Message(
        queue_name=queue,
        actor_name="fire",
        args=(key,),
        kwargs={},
        options={},
    )


@pytest.fixture
def message() -> Callable[..., Message[Any]]:
    return new_message


@pytest.fixture
def wait_until() -> Callable[..., None]:
    def wait(
        condition: Callable[[], object], seconds: float = 10
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    return wait


@pytest.fixture
def receive(
    make_broker: Callable[..., LadderBroker],
) -> Iterator[Callable[..., Received]]:
    """Start a consumer of ``timers`` that acknowledges everything."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start(url: str, queue_type: str = "classic") -> Received:
        received = Received([], [])
        broker = make_broker(url, queue_type)
        consumer = broker.consume("timers", prefetch=100, timeout=50)

        def run() -> None:
            for delivery in consumer:
                if delivery is not None:
                    received.times.append(time.monotonic())
                    received.keys.append(delivery.args[0])
                    consumer.ack(delivery)
                if stopping.is_set():
                    break
            consumer.close()

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return received

    yield start
    stopping.set()
    for thread in threads:
        thread.join(5)

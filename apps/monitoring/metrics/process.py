"""A process's part in the metrics: it samples, and one of them answers."""

import socket
import threading
from collections.abc import Callable
from wsgiref.simple_server import (
    WSGIRequestHandler,
    WSGIServer,
    make_server,
)

from django.conf import settings
from prometheus_client import make_wsgi_app

from apps.core.outages import Outage, describe
from apps.monitoring.metrics import exposition
from apps.monitoring.metrics.numbers import NUMBERS
from apps.monitoring.metrics.pools import Pools

#: How often the gauges are set, in seconds.
INTERVAL = 2.0

_NOT_SHARED = Outage(
    "metrics can't be shared with this server's other processes: /metrics"
    " has the numbers of one of them",
)
_NOT_SAMPLED = Outage(
    "gauges for /metrics can't be set; trying again", "gauges are set again"
)
_NOT_HEARD = Outage(
    "METRICS_PORT can't be listened on; trying again",
    "METRICS_PORT is listened on",
)


def start_web() -> bool:
    """Take part as a web process, where the API answers /metrics.

    Returns whether it is the first one of its server.
    """
    return Part("web", port=0).is_first


def start(role: str, *samplers: Callable[[], None]) -> None:
    """Take part if there is a METRICS_PORT; one process of a server answers.

    `samplers` set gauges, every two seconds.
    """
    if settings.METRICS_PORT:
        Part(role, *samplers, port=settings.METRICS_PORT)


class Part:
    """A thread that sets gauges, and sees that somebody answers.

    is_first  whether it is the first process of its server
    """

    def __init__(
        self, role: str, *samplers: Callable[[], None], port: int
    ) -> None:
        """Share this process's numbers; the first process has the port."""
        self._samplers: list[Callable[[], None]] = [
            NUMBERS.give_sign, Pools(), *samplers,
        ]
        self.is_first = True
        self._ended = threading.Event()
        try:
            self.is_first = NUMBERS.share(role) == 0
        except OSError as error:
            _NOT_SHARED.failed(error=describe(error))
        self._port = port if self.is_first else 0
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._sample()
            if self._port and listen(settings.METRICS_ADDRESS, self._port):
                self._port = 0
            self._ended.wait(INTERVAL)

    def _sample(self) -> None:
        try:
            for sampler in self._samplers:
                sampler()
        except Exception as error:  # nothing depends on it
            _NOT_SAMPLED.failed(error)
        else:
            _NOT_SAMPLED.worked()


class _Server(WSGIServer):
    """Answers one request after the other, so that it needs one thread."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that leave, or take too long."""


class _Server6(_Server):
    """The same for an IPv6 address."""

    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    """Waits for a client's next bytes for a bounded time, and logs nothing."""

    timeout = 5.0

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def listen(host: str, port: int) -> WSGIServer | None:
    """Answer with the numbers from now on; None if that can't be."""
    try:
        server = make_server(
            host,
            port,
            make_wsgi_app(exposition.counted()),
            _Server6 if ":" in host else _Server,
            _Handler,
        )
    except OSError as error:
        _NOT_HEARD.failed(error=describe(error), host=host, port=port)
        return None
    _NOT_HEARD.worked()
    threading.Thread(
        target=server.serve_forever, name="metrics server", daemon=True
    ).start()
    return server

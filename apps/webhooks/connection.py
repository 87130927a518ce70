"""Connections that send a request once, and know when it has left.

urllib3's connections, with what it does to a URL, to a deadline and to a
broken pipe taken out. They work for the call in `exchange.current`.
"""

import http.client
import ssl
from collections.abc import Mapping
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from apps.webhooks.dialer import Dialer
from apps.webhooks.exchange import Exchange, Failed, FailureKind, current
from apps.webhooks.sockets import DeadlineSocket, ResumingContext


class _Answer(http.client.HTTPResponse):
    """An answer that may be announced by any number of 1xx ones.

    http.client passes over 100 only; RFC 9110, section 15.2, has a client
    pass over all but 101, which nobody asked for here.
    """

    def _read_status(self) -> tuple[str, int, str]:
        status: tuple[str, int, str]
        status = super()._read_status()  # type: ignore[misc]
        version, code, reason = status
        if 101 < code < 200:
            code = http.client.CONTINUE
        return version, code, reason


class Connection(HTTPConnection):
    """An http connection, to the target itself or to the proxy."""

    response_class = _Answer

    sock: DeadlineSocket | None
    idle_since: float | None = None
    """time.monotonic() when its last answer was complete; None if new."""

    _held: list[bytes] | None = None

    def __init__(self, *args: Any, dialer: Dialer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dialer = dialer

    def connect(self) -> None:
        """Connect by the deadline; raise Failed if that can't be."""
        self.idle_since = None
        super().connect()

    def _new_conn(self) -> DeadlineSocket:
        return self._dialer.dial(current.get())

    def send(self, data: Any) -> None:
        """Hold the parts of a request, so that it leaves in one piece."""
        if self._held is not None:
            self._held.append(data)
        else:
            super().send(data)

    def putrequest(self, method: str, url: str, *_: Any, **__: Any) -> None:
        """Begin a request with the target's own words.

        Host and Accept-Encoding are among the headers.
        """
        super().putrequest(
            method,
            self._request_target(current.get()),
            skip_host=True,
            skip_accept_encoding=True,
        )

    def putheader(  # type: ignore[override]
        self, header: str, *values: str
    ) -> None:
        """Add a header whatever its value, of which urllib3 obeys one."""
        http.client.HTTPConnection.putheader(self, header, *values)

    def _request_target(self, exchange: Exchange) -> str:
        target = exchange.target
        if self._dialer.proxy is None:
            return target.request_target
        return f"http://{target.host_header}{target.request_target}"

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Connect, ask the hook, send; note when the last byte has left.

        A broken pipe is no failure yet: the peer may have answered before
        it closed. `sent` then stays False.
        """
        exchange = current.get()
        self._make_ready(exchange)
        self._held = []
        try:
            super().request(method, url, body, headers, **options)
            data = b"".join(self._held)
        finally:
            self._held = None
        self._transmit(exchange, data)

    def _make_ready(self, exchange: Exchange) -> None:
        """Leave a connection that is open, after the hook has agreed.

        The hook may take its time. If the peer has closed meanwhile, there
        is a new connection, and the hook is asked again.
        """
        while True:
            if self.sock is None:
                self.connect()
            if exchange.before_send is not None:
                try:
                    exchange.before_send()
                except Exception as error:
                    text = str(error) or type(error).__name__
                    raise Failed(FailureKind.aborted, text) from error
            if self.idle_since is None or self.is_connected:
                return
            self.close()

    def _transmit(self, exchange: Exchange, data: bytes) -> None:
        sock = self.sock
        assert sock is not None
        try:
            sock.settimeout(exchange.remaining())
        except TimeoutError as error:
            raise Failed(FailureKind.aborted, error) from None
        exchange.received = 0
        if self.idle_since is not None:
            sock.acked_before = sock.bytes_acked()
        try:
            sock.sendall(data)
        except TimeoutError:
            raise Failed(
                FailureKind.timeout, "the request was not taken in time"
            ) from None
        except OSError:
            return
        exchange.sent = True
        if exchange.on_sent is not None:
            exchange.on_sent()

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """Return the answer when its head is complete; raise Failed."""
        exchange = current.get()
        try:
            return super().getresponse()
        except Failed:
            raise
        except TimeoutError:
            raise Failed(
                FailureKind.timeout, "no answer by the deadline"
            ) from None
        except OSError as error:
            raise Failed(self._lost(exchange), error) from None
        except Exception as error:
            # Whatever it is, what the peer sent has brought it about.
            raise Failed(FailureKind.protocol, error) from None

    def _lost(self, exchange: Exchange) -> FailureKind:
        if self.idle_since is None or exchange.received:
            return FailureKind.reset
        return FailureKind.stale


class TLSConnection(Connection, HTTPSConnection):
    """An https connection, through a tunnel if there is a proxy."""

    ssl_context: ResumingContext

    def connect(self) -> None:
        """Connect, through the proxy if there is one, and shake hands."""
        if self._dialer.proxy is not None:
            target = current.get().target
            self.set_tunnel(target.host, target.port)
        try:
            super().connect()
        except TimeoutError:
            raise Failed(
                FailureKind.tls, "the TLS handshake was not done in time"
            ) from None
        except (OSError, ValueError) as error:
            raise Failed(FailureKind.tls, error) from None

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(FailureKind.proxy, error) from None

    def _request_target(self, exchange: Exchange) -> str:
        return exchange.target.request_target

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """Return the answer, and keep the TLS session if it is a new one."""
        sock = self.sock
        response = super().getresponse()
        if self.idle_since is None and isinstance(sock, ssl.SSLSocket):
            self.ssl_context.keep_session(sock)
        return response

"""The transport adapter of `requests`: one call, from top to bottom."""

import io
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter

from apps.webhooks.http.answer import Answer
from apps.webhooks.http.connection import Connection
from apps.webhooks.http.dialing import Dialer
from apps.webhooks.http.exchange import (
    Abort,
    Exchange,
    Failed,
    FailureKind,
)
from apps.webhooks.http.idle import IdleConnections

#: How long the body may take once the status is known, in seconds.
BODY_SECONDS = 0.5
#: How long a body that is sent apart from the head usually takes, in seconds.
#: After that, the status is told although the body has not come.
_BODY_FOLLOWS = 0.02

_MAX_SESSIONS = 1024

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE = re.compile(r"[\r\n\0]")
#: OpenSSL's name of the alert (RFC 8446, section 6.2).
_CERTIFICATE_REQUIRED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"


class WebhookAdapter(BaseAdapter):
    """Sends a request byte for byte, to an address that was checked.

    It follows no redirect, keeps no cookie and reads no environment.
    """

    def __init__(self, dialer: Dialer, context: ssl.SSLContext) -> None:
        super().__init__()
        self._dialer = dialer
        self._context = context
        #: TLS sessions to resume, by host, port and checked address. Resuming
        #: one skips the check of the certificate, so it must go to where it
        #: came from.
        self._sessions: dict[tuple[str, int, str], ssl.SSLSession] = {}
        self._idle = IdleConnections()

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
        *,
        exchange: Exchange | None = None,
    ) -> Response:
        """Perform the exchange and return the answer; raise Failed.

        The answer has a status, a Retry-After and the body's first KiB. The
        exchange says where to and by when; what `requests` says of that is
        ignored.
        """
        assert exchange is not None
        data = _encoded(request, self._request_target(exchange))
        connection = self._idle.take(exchange.target)
        if connection is None:
            connection = self._connect(exchange)
        try:
            answer = self._perform(exchange, connection, data)
        except _Unread:
            exchange.sent, exchange.on_sent = False, None
            answer = self._perform(exchange, self._connect(exchange), data)
        response = Response()
        response.status_code = answer.status or 0
        response.raw = io.BytesIO(answer.body)
        if answer.retry_after is not None:
            response.headers["retry-after"] = answer.retry_after
        return response

    def close(self) -> None:
        """Close the connections that wait; calls under way go on."""
        self._idle.close()

    def _request_target(self, exchange: Exchange) -> str:
        target = exchange.target
        if self._dialer.proxy is None or target.scheme == "https":
            return target.request_target
        return f"http://{target.host_header}{target.request_target}"

    def _connect(self, exchange: Exchange) -> Connection:
        """Return a new connection, through the proxy if there is one."""
        target = exchange.target
        connection = self._dialer.dial(exchange)
        try:
            if target.scheme == "https":
                if self._dialer.proxy is not None:
                    _open_tunnel(exchange, connection)
                origin = target.host, target.port, connection.address
                session = self._sessions.get(origin)
                connection.start_tls(exchange, self._context, session)
        except BaseException:
            connection.close()
            raise
        return connection

    def _perform(
        self, exchange: Exchange, connection: Connection, data: bytes
    ) -> Answer:
        connection = self._agreed(exchange, connection)
        is_kept = False
        try:
            acked = _transmit(exchange, connection, data)
            answer = self._read(exchange, connection, acked)
            is_kept = answer.reusable
        finally:
            if is_kept:
                self._idle.put(exchange.target, connection)
            else:
                connection.close()
        return answer

    def _agreed(
        self, exchange: Exchange, connection: Connection
    ) -> Connection:
        """Return a connection that is open, after the hook has agreed.

        The hook may take its time. If the peer has closed meanwhile, there
        is a new connection, and the hook is asked again.
        """
        while True:
            try:
                _ask(exchange)
            except BaseException:
                connection.close()
                raise
            if connection.idle_since is None or connection.is_quiet():
                return connection
            connection.close()
            connection = self._connect(exchange)

    def _read(
        self, exchange: Exchange, connection: Connection, acked: int
    ) -> Answer:
        """Read the answer; raise Failed if no whole head of one comes.

        Once there is a status, that is the answer. A failure of the body
        afterwards only costs the connection.
        """
        answer = Answer()
        has_begun = False
        while answer.status is None:
            try:
                data = connection.receive(exchange, exchange.deadline)
            except (OSError, Failed) as error:
                raise _failure(
                    exchange, connection, has_begun, error
                ) from None
            if not data and not has_begun:
                raise _ended(connection, acked)
            if not has_begun and connection.idle_since is None:
                self._keep_session(exchange, connection)
            has_begun = True
            answer.feed(data)
        if not answer.is_complete:
            _read_body(exchange, connection, answer)
        return answer

    def _keep_session(
        self, exchange: Exchange, connection: Connection
    ) -> None:
        """Keep the TLS session of a new connection, if it has TLS.

        With TLS 1.3 its ticket comes after the handshake and before the
        answer.
        """
        session = connection.tls_session
        if session is not None:
            target = exchange.target
            if len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.clear()
            origin = target.host, target.port, connection.address
            self._sessions[origin] = session


class _Unread(Exception):
    """The peer closed before it had any byte of the request."""


def _ask(exchange: Exchange) -> None:
    """Ask the hook whether to send; raise Failed if not."""
    if exchange.before_send is not None:
        try:
            exchange.before_send()
        except Abort as error:
            raise Failed(FailureKind.aborted, error) from error


def _encoded(request: PreparedRequest, request_target: str) -> bytes:
    """Return the request's bytes; ValueError for what can't be a header."""
    lines = [f"{request.method} {request_target} HTTP/1.1"]
    for name, value in request.headers.items():
        if not _NAME.fullmatch(name) or _NOT_IN_VALUE.search(value):
            raise ValueError(f"{name!r} can't be sent as a header")
        lines.append(f"{name}: {value}")
    lines.append("\r\n")
    body = request.body or b""
    assert isinstance(body, bytes)
    return "\r\n".join(lines).encode("latin-1") + body


def _open_tunnel(exchange: Exchange, connection: Connection) -> None:
    """Ask the proxy to connect to the target (RFC 9110, section 9.3.6)."""
    target = exchange.target
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{host}:{target.port}"
    try:
        request = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n"
        connection.send(exchange, request.encode())
        answer = Answer()
        while answer.status is None:
            answer.feed(connection.receive(exchange, exchange.deadline))
    except Failed as error:
        raise Failed(FailureKind.proxy, error.detail) from None
    except OSError as error:
        raise Failed(FailureKind.proxy, error) from None
    if not 200 <= answer.status < 300 or answer.body:
        raise Failed(FailureKind.proxy, f"it answered {answer.status}")


def _transmit(exchange: Exchange, connection: Connection, data: bytes) -> int:
    """Send the request; return how many bytes the peer had confirmed before.

    A broken connection is no failure yet: the peer may have answered before
    it closed. `exchange.sent` then stays False. The number is 0 for a new
    connection.
    """
    if exchange.is_over():
        raise Failed(FailureKind.aborted, "the deadline has passed")
    is_reused = connection.idle_since is not None
    acked = connection.bytes_acked() if is_reused else 0
    connection.begin_call()
    try:
        connection.send(exchange, data)
    except TimeoutError:
        raise Failed(
            FailureKind.timeout, "the request was not taken in time"
        ) from None
    except OSError:
        return acked
    exchange.sent = True
    if exchange.on_sent is not None:
        exchange.on_sent()
    return acked


def _read_body(
    exchange: Exchange, connection: Connection, answer: Answer
) -> None:
    """Read the rest of the body; tell the status if it does not come soon."""
    known_at = time.monotonic()

    def read_until(until: float) -> None:
        until = min(until, exchange.deadline)
        while not answer.is_complete:
            answer.feed(connection.receive(exchange, until))

    with suppress(OSError, Failed):
        with suppress(TimeoutError):
            read_until(known_at + _BODY_FOLLOWS)
        if not answer.is_complete:
            if exchange.on_answer is not None and answer.status is not None:
                exchange.on_answer(answer.status)
            read_until(known_at + BODY_SECONDS)


def _ended(connection: Connection, acked: int) -> Exception:
    """Return what to raise when the peer closed without an answer."""
    if connection.idle_since is None:
        return Failed(FailureKind.reset, "closed without an answer")
    if 0 < acked == connection.bytes_acked():
        return _Unread()
    return Failed(FailureKind.stale, "closed without an answer")


def _failure(
    exchange: Exchange,
    connection: Connection,
    has_begun: bool,
    error: OSError | Failed,
) -> Failed:
    """Return what to raise when no whole head of an answer came."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, TimeoutError):
        return Failed(FailureKind.timeout, "no answer by the deadline")
    if isinstance(error, ssl.SSLError) and not has_begun and (
        error.reason == _CERTIFICATE_REQUIRED
    ):
        # The handshake's last part: in TLS 1.3 it follows the request.
        exchange.sent = False
        return Failed(FailureKind.tls, error)
    if connection.idle_since is None or has_begun:
        return Failed(FailureKind.reset, error)
    return Failed(FailureKind.stale, error)

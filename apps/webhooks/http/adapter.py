"""The transport adapter of `requests`: one call, from top to bottom."""

import io
import re
import ssl
import time
from contextlib import suppress
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter

from apps.webhooks.http.answer import Answer
from apps.webhooks.http.connection import Connection
from apps.webhooks.http.dialing import Dialer
from apps.webhooks.http.exchange import Abort, Exchange, Failed
from apps.webhooks.http.idle import IdleConnections
from apps.webhooks.results import FailureKind
from apps.webhooks.target import Origin, Target

#: How long the body may take once the status is known, in seconds.
BODY_SECONDS = 0.5
#: How long a body that is sent apart from the head usually takes, in seconds.
#: After that, the status is told although the body has not come.
_BODY_FOLLOWS = 0.02

_MAX_SESSIONS = 1024

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*")
#: OpenSSL's name of the alert (RFC 8446, section 6.2).
_CERTIFICATE_REQUIRED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"


class WebhookAdapter(BaseAdapter):
    """Sends a request byte for byte, to an address that was checked."""

    def __init__(self, dialer: Dialer, context: ssl.SSLContext) -> None:
        super().__init__()
        self._dialer = dialer
        self._context = context
        #: TLS sessions to resume, by origin and checked address. Resuming one
        #: skips the check of the certificate, so it must go to where it came
        #: from.
        self._sessions: dict[tuple[Origin, str], ssl.SSLSession] = {}
        self._idle = IdleConnections()

    def close(self) -> None:
        """Close the connections that wait; calls under way go on."""
        self._idle.close()

    def send(
        self,
        request: PreparedRequest,
        *_: Any,
        exchange: Exchange | None = None,
        **__: Any,
    ) -> Response:
        """Perform the exchange and return the answer; raise Failed.

        The answer has a status, a Retry-After and the body's first KiB. The
        exchange says where to and by when; what `requests` says of that is
        ignored.
        """
        assert exchange is not None
        data = self._encoded(request, exchange.target)
        try:
            idle = self._idle.take(exchange.target.origin)
            answer = self._perform(exchange, data, idle)
        except _Unread:
            answer = self._perform(exchange, data, None)
        response = Response()
        response.status_code = answer.status or 0
        response.raw = io.BytesIO(answer.body)
        if answer.retry_after is not None:
            response.headers["retry-after"] = answer.retry_after
        return response

    def _encoded(self, request: PreparedRequest, target: Target) -> bytes:
        """Return the request's bytes; ValueError for what can't be a header.

        A proxy that makes no tunnel is told the whole URL.
        """
        place = target.request_target
        if target.scheme == "http" and self._dialer.proxy is not None:
            place = f"http://{target.host_header}{place}"
        lines = [f"{request.method} {place} HTTP/1.1"]
        for name, value in request.headers.items():
            lines.append(f"{name}: {value}")
            if not _HEADER.fullmatch(lines[-1]):
                raise ValueError(f"{name!r} can't be sent as a header")
        lines.append("\r\n")
        body = request.body or b""
        assert isinstance(body, bytes)
        return "\r\n".join(lines).encode("latin-1") + body

    def _perform(
        self, exchange: Exchange, data: bytes, reused: Connection | None
    ) -> Answer:
        """Send a request and read the answer, over a new connection if None.

        Raises _Unread if the connection had ended before the request came.
        """
        target = exchange.target
        connection = reused or self._dialer.dial(exchange)
        is_kept = False
        try:
            if not reused and target.scheme == "https":
                self._start_tls(connection, target)
            exchange.before_send()
            # The hook may have taken its time.
            if reused and not reused.is_quiet():
                raise _Unread
            _transmit(exchange, connection, data)
            answer = _read_head(exchange, connection)
            self._keep_session(connection, target)
            if not answer.is_complete:
                _read_body(exchange, connection, answer)
            is_kept = answer.reusable
        finally:
            if is_kept:
                self._idle.put(target.origin, connection)
            else:
                connection.close()
        return answer

    def _start_tls(self, connection: Connection, target: Target) -> None:
        """Start TLS, in a tunnel if there is a proxy."""
        if self._dialer.proxy is not None:
            _open_tunnel(connection, target)
        session = self._sessions.get((target.origin, connection.address))
        connection.start_tls(self._context, target.host, session)

    def _keep_session(self, connection: Connection, target: Target) -> None:
        """Keep the TLS session of a new connection, if it has TLS.

        With TLS 1.3 its ticket comes after the handshake and before the
        answer.
        """
        session = None if connection.is_reused else connection.tls_session
        if session is not None:
            if len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.clear()
            self._sessions[target.origin, connection.address] = session


class _Unread(Exception):
    """The peer closed before it had any byte of the request."""


def _open_tunnel(connection: Connection, target: Target) -> None:
    """Ask the proxy to connect to the target (RFC 9110, section 9.3.6)."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{host}:{target.port}"
    answer = Answer()
    try:
        request = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n"
        connection.send(request.encode())
        while answer.status is None:
            answer.feed(connection.receive())
    except (OSError, Failed) as error:
        raise Failed(FailureKind.proxy, error) from None
    if not 200 <= answer.status < 300 or answer.body:
        raise Failed(FailureKind.proxy, f"it answered {answer.status}")


def _transmit(exchange: Exchange, connection: Connection, data: bytes) -> None:
    """Send the request.

    A broken connection is no failure yet: the peer may have answered before
    it closed. `exchange.sent` then stays False.
    """
    if exchange.is_over():
        raise Abort("the deadline has passed")
    connection.begin_call(exchange.deadline)
    try:
        connection.send(data)
    except TimeoutError:
        raise Failed(
            FailureKind.timeout, "the request was not taken in time"
        ) from None
    except OSError:
        return
    exchange.sent = True
    if not exchange.is_marked:
        exchange.is_marked = True
        exchange.on_sent()


def _read_head(exchange: Exchange, connection: Connection) -> Answer:
    """Return an answer whose head is complete; raise Failed or _Unread."""
    answer = Answer()
    try:
        while answer.status is None:
            data = connection.receive()
            if not data and not answer.head:
                if connection.is_unread():
                    exchange.sent = False
                    raise _Unread
                raise ConnectionResetError("closed without an answer")
            answer.feed(data)
    except TimeoutError:
        raise Failed(
            FailureKind.timeout, "no answer by the deadline"
        ) from None
    except OSError as error:
        kind = FailureKind.reset
        if connection.is_reused and not answer.head:
            kind = FailureKind.stale
        reason = getattr(error, "reason", None)
        if reason == _CERTIFICATE_REQUIRED and not answer.head:
            # The handshake's last part: in TLS 1.3 it follows the request.
            kind, exchange.sent = FailureKind.tls, False
        raise Failed(kind, error) from None
    return answer


def _read_body(
    exchange: Exchange, connection: Connection, answer: Answer
) -> None:
    """Read the body; tell the status if it does not come soon.

    The status is the answer. A failure afterwards only costs the connection.
    """
    known_at = time.monotonic()

    def read_until(until: float) -> None:
        while not answer.is_complete:
            answer.feed(connection.receive(until))

    with suppress(OSError, Failed):
        with suppress(TimeoutError):
            read_until(known_at + _BODY_FOLLOWS)
        if not answer.is_complete:
            assert answer.status is not None
            exchange.on_answer(answer.status)
            read_until(known_at + BODY_SECONDS)

"""Sockets that keep to a call's deadline, and TLS that resumes sessions."""

import socket
import ssl
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

import certifi

from apps.webhooks.exchange import Failed, FailureKind, current

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_ANSWER = 128 * 1024
"""Bytes that are received of an answer: head, body and their framing."""

_MAX_SESSIONS = 1024

_TOLERANCE = 0.01
"""So much later than at its deadline may a socket give up, in seconds: to set
a time-out is a system call, and another chance to lose the interpreter."""

# tcpi_bytes_acked in struct tcp_info of <linux/tcp.h>, since Linux 4.1.
_BYTES_ACKED = struct.Struct("=120xQ")


class DeadlineSocket(socket.socket):
    """A socket that receives by the deadline of the current call.

    Sending needs no more than a time-out set before: sendall(), with TLS as
    without, keeps to it as a whole.
    """

    acked_before = 0
    """bytes_acked() from before a request on a reused connection, else 0."""

    def recv_into(
        self,
        buffer: "WriteableBuffer",
        nbytes: int | None = None,
        flags: int = 0,
    ) -> int:
        """Receive by the deadline, and no answer without end."""
        exchange = current.get()
        left = exchange.remaining()
        if abs((self.gettimeout() or 0.0) - left) > _TOLERANCE:
            self.settimeout(left)
        size = super().recv_into(buffer)
        exchange.received += size
        if not exchange.received:
            exchange.unseen = 0 < self.acked_before == self.bytes_acked()
        if exchange.received > MAX_ANSWER:
            raise Failed(FailureKind.protocol, "the answer is too long")
        return size

    def bytes_acked(self) -> int:
        """Return how many bytes the peer's TCP has confirmed, 0 if unknown.

        Only Linux says so. The segment that closes a connection confirms
        what had come until then: if that is nothing of a request, the peer
        closed before it had any of it. (A reset proves nothing of the kind:
        confirmations that are due get lost with it.)
        """
        if sys.platform != "linux":
            return 0
        info = self.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size
        )
        if len(info) < _BYTES_ACKED.size:
            return 0
        acked: int = _BYTES_ACKED.unpack(info)[0]
        return acked


class DeadlineTLSSocket(DeadlineSocket, ssl.SSLSocket):
    """The same with TLS."""


class ResumingContext(ssl.SSLContext):
    """A client's TLS context that resumes the sessions it is given.

    Sessions are kept per host, port and checked address: resuming one skips
    the check of the certificate, so it must lead to where it came from.
    """

    sslsocket_class = DeadlineTLSSocket

    _lock: threading.Lock
    _sessions: dict[tuple[str, int, str], ssl.SSLSession]

    def wrap_socket(
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> ssl.SSLSocket:
        """Shake hands by the current call's deadline, resuming if it can."""
        sock.settimeout(current.get().remaining())
        kwargs["session"] = self._sessions.get(_session_key())
        return super().wrap_socket(sock, *args, **kwargs)

    def keep_session(self, sock: ssl.SSLSocket) -> None:
        """Keep the session of the current call's socket.

        To be called when an answer has begun: with TLS 1.3 the session's
        ticket comes before it, and after the handshake.
        """
        session = sock.session
        if session is None:
            return
        with self._lock:
            self._sessions.pop(_session_key(), None)
            self._sessions[_session_key()] = session
            if len(self._sessions) > _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]


def tls_context(ca_file: str | None) -> ResumingContext:
    """Return a verifying context that trusts certifi's roots and ca_file's.

    Raises OSError if the file is missing or holds no certificate.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context._lock = threading.Lock()
    context._sessions = {}
    return context


def _session_key() -> tuple[str, int, str]:
    exchange = current.get()
    return exchange.target.host, exchange.target.port, exchange.address

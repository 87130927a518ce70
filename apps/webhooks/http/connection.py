"""A connection that keeps to a call's deadline at every read and write.

TLS runs in memory (`ssl.MemoryBIO`), so that each raw byte passes through
here. On a socket, OpenSSL would read for as long as records without data come
in: a receiver could keep it busy far beyond any deadline.
"""

import math
import select
import socket
import ssl
import sys
import time

import certifi

from apps.webhooks.http.exchange import Failed
from apps.webhooks.results import FailureKind

#: The most that is received for one call, in raw bytes.
MAX_RECEIVED = 128 * 1024
#: The most that is received in a row without data of the answer: TLS records
#: that carry tickets, new keys or nothing.
MAX_WITHOUT_DATA = 32 * 1024
_PIECE = 16 * 1024
_SENT_PIECE = 64 * 1024

#: Where struct tcp_info of <linux/tcp.h> has tcpi_bytes_acked, since Linux
#: 4.1; an older one is shorter.
_BYTES_ACKED = slice(120, 128)


class Connection:
    """A connected socket, with TLS once `start_tls` was called.

    address    the IP address that it leads to
    is_reused  whether it has served an earlier call

    What it sends and receives, it does by the deadline of the call.
    """

    def __init__(
        self, sock: socket.socket, address: str, deadline: float
    ) -> None:
        self.address = address
        self.is_reused = False
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.begin_call(deadline)

    def begin_call(self, deadline: float) -> None:
        """Take the next call's deadline, and count its bytes from 0."""
        self._deadline = deadline
        self._received = self._without_data = 0
        self._acked_before = self.bytes_acked() if self.is_reused else 0

    def close(self) -> None:
        """Close it, with no word to the peer."""
        self._sock.close()

    def is_quiet(self) -> bool:
        """Tell whether it is open and nothing has come: it may serve again."""
        return not self._poll.poll(0)

    def is_unread(self) -> bool:
        """Tell whether the peer, which has closed, had none of this call.

        The segment that closes a connection confirms all bytes that came
        before it. (A reset proves no such thing: pending confirmations get
        lost with it.) It is known of a reused connection only.
        """
        return 0 < self._acked_before == self.bytes_acked()

    def bytes_acked(self) -> int:
        """Return how many bytes the peer's TCP has confirmed, 0 if unknown.

        Only Linux tells.
        """
        if sys.platform != "linux":
            return 0
        info = self._sock.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop
        )
        return int.from_bytes(info[_BYTES_ACKED], sys.byteorder)

    def start_tls(
        self,
        context: ssl.SSLContext,
        host: str,
        session: ssl.SSLSession | None,
    ) -> None:
        """Shake hands and check the certificate; raise Failed if that fails.

        A session of this very host, port and address may be resumed.
        """
        try:
            self._tls = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_hostname=host.rstrip("."),
                session=session,
            )
            self._shake_hands(self._tls)
        except TimeoutError:
            raise Failed(
                FailureKind.tls, "the TLS handshake was not done in time"
            ) from None
        except (OSError, ValueError) as error:
            raise Failed(FailureKind.tls, error) from None

    @property
    def tls_session(self) -> ssl.SSLSession | None:
        """The session to resume, once an answer began; None without TLS."""
        return None if self._tls is None else self._tls.session

    def send(self, data: bytes) -> None:
        """Send all of it; raise TimeoutError at the deadline, or OSError."""
        if self._tls is None:
            self._sock.settimeout(seconds_left(self._deadline))
            self._sock.sendall(data)
            return
        for start in range(0, len(data), _SENT_PIECE):
            self._tls.write(data[start:start + _SENT_PIECE])
            self._flush()

    def receive(self, until: float = math.inf) -> bytes:
        """Return the next bytes of the answer, none at its end.

        Raises TimeoutError when none came by `until` (time.monotonic()) or
        the deadline, another OSError when the connection broke, Failed when
        too many came.
        """
        if self._tls is None:
            return self._receive_raw(until)
        while True:
            try:
                data = self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                self._flush()
            except ssl.SSLEOFError:
                return b""
            else:
                self._without_data = 0
                return data
            self._feed_tls(until)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                return tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            finally:
                self._flush()  # if it failed, the alert that says why
            self._feed_tls(self._deadline)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._sock.settimeout(seconds_left(self._deadline))
            self._sock.sendall(data)

    def _feed_tls(self, until: float) -> None:
        """Receive bytes for TLS, which may hold data or none."""
        raw = self._receive_raw(until)
        self._without_data += len(raw)
        if self._without_data > MAX_WITHOUT_DATA:
            raise Failed(FailureKind.protocol, "TLS brings no data")
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()

    def _receive_raw(self, until: float) -> bytes:
        self._sock.settimeout(seconds_left(min(until, self._deadline)))
        data = self._sock.recv(_PIECE)
        self._received += len(data)
        if self._received > MAX_RECEIVED:
            raise Failed(FailureKind.protocol, "the answer is too long")
        return data


def seconds_left(until: float) -> float:
    """Return the seconds left; raise TimeoutError if there are none."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a verifying context that trusts certifi's roots and ca_file's.

    Raises OSError if the file is missing or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context

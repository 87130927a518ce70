"""A connection that keeps to a call's deadline at every read and write.

TLS runs in memory (`ssl.MemoryBIO`), so that each raw byte passes through
here. On a socket, OpenSSL would read for as long as records without data come
in: a receiver could keep it busy far beyond any deadline.
"""

import select
import socket
import ssl
import struct
import sys
import time

import certifi

from apps.webhooks.http.exchange import Exchange, Failed, FailureKind

#: The most that is received for one call, in raw bytes.
MAX_RECEIVED = 128 * 1024
#: The most that is received in a row without data of the answer: TLS records
#: that carry tickets, new keys or nothing.
MAX_WITHOUT_DATA = 32 * 1024
_PIECE = 16 * 1024
_SENT_PIECE = 64 * 1024

# tcpi_bytes_acked in struct tcp_info of <linux/tcp.h>, since Linux 4.1.
_BYTES_ACKED = struct.Struct("=120xQ")


class Connection:
    """A connected socket, with TLS once `start_tls` was called.

    address        the IP address that it leads to
    idle_since     time.monotonic() of its last answer's end; None if new
    """

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self.idle_since: float | None = None
        self._sock = sock
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._received = 0
        self._without_data = 0

    def begin_call(self) -> None:
        """Begin to count what is received for the next call."""
        self._received = self._without_data = 0

    def close(self) -> None:
        """Close it, with no word to the peer."""
        self._sock.close()

    def is_quiet(self) -> bool:
        """Tell whether it is open and nothing has come: it may serve again."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def bytes_acked(self) -> int:
        """Return how many bytes the peer's TCP has confirmed, 0 if unknown.

        Only Linux tells. The segment that closes a connection confirms all
        bytes that came before it. If none of a request are among them, the
        peer closed before it had any of the request. (A reset proves no such
        thing: pending confirmations get lost with it.)
        """
        if sys.platform != "linux":
            return 0
        info = self._sock.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size
        )
        if len(info) < _BYTES_ACKED.size:
            return 0
        acked: int = _BYTES_ACKED.unpack(info)[0]
        return acked

    def start_tls(
        self,
        exchange: Exchange,
        context: ssl.SSLContext,
        session: ssl.SSLSession | None,
    ) -> None:
        """Shake hands and check the certificate; raise Failed if that fails.

        A session of this very host, port and address may be resumed.
        """
        try:
            self._tls = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_hostname=exchange.target.host.rstrip("."),
                session=session,
            )
            while not self._shake_hands(exchange):
                pass
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

    def send(self, exchange: Exchange, data: bytes) -> None:
        """Send all of it; raise TimeoutError at the deadline, or OSError."""
        if self._tls is None:
            self._sock.settimeout(exchange.remaining())
            self._sock.sendall(data)
            return
        for start in range(0, len(data), _SENT_PIECE):
            self._tls.write(data[start:start + _SENT_PIECE])
            self._flush(exchange)

    def receive(self, exchange: Exchange, until: float) -> bytes:
        """Return the next bytes of the answer, none at its end.

        Raises TimeoutError when none came by `until` (time.monotonic()),
        another OSError when the connection broke, Failed when too many came.
        """
        if self._tls is None:
            return self._receive_raw(until)
        while True:
            try:
                data = self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                self._flush(exchange)
            except ssl.SSLEOFError:
                return b""
            else:
                self._without_data = 0
                return data
            self._take(self._receive_raw(until))

    def _shake_hands(self, exchange: Exchange) -> bool:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush(exchange)
        except ssl.SSLError:
            self._flush(exchange)  # the alert that says why
            raise
        else:
            self._flush(exchange)
            return True
        self._take(self._receive_raw(exchange.deadline))
        return False

    def _take(self, raw: bytes) -> None:
        """Give received bytes to TLS; they may hold data or none."""
        if not raw:
            self._incoming.write_eof()
            return
        self._without_data += len(raw)
        if self._without_data > MAX_WITHOUT_DATA:
            raise Failed(FailureKind.protocol, "TLS brings no data")
        self._incoming.write(raw)

    def _flush(self, exchange: Exchange) -> None:
        if data := self._outgoing.read():
            self._sock.settimeout(exchange.remaining())
            self._sock.sendall(data)

    def _receive_raw(self, until: float) -> bytes:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        self._sock.settimeout(left)
        data = self._sock.recv(_PIECE)
        self._received += len(data)
        if self._received > MAX_RECEIVED:
            raise Failed(FailureKind.protocol, "the answer is too long")
        return data


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

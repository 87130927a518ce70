"""A TLS 1.3 receiver that answers with records that carry no data.

Python's `ssl` can't send them, so this drives OpenSSL itself.
"""

import ctypes
import ctypes.util
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PEM = 1
_NOT_REQUESTED = 0


def library() -> ctypes.CDLL | None:
    """Return OpenSSL's library, None where there is none to load."""
    name = ctypes.util.find_library("ssl")
    try:
        found = ctypes.CDLL(name) if name else None
    except OSError:
        return None
    if found is None or not hasattr(found, "SSL_key_update"):
        return None
    for function in ("TLS_server_method", "SSL_CTX_new", "SSL_new"):
        getattr(found, function).restype = ctypes.c_void_p
    found.SSL_CTX_new.argtypes = [ctypes.c_void_p]
    found.SSL_new.argtypes = [ctypes.c_void_p]
    found.SSL_set_fd.argtypes = [ctypes.c_void_p, ctypes.c_int]
    for function in ("SSL_accept", "SSL_do_handshake", "SSL_free",
                     "SSL_new_session_ticket"):
        getattr(found, function).argtypes = [ctypes.c_void_p]
    found.SSL_read.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    ]
    found.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    found.SSL_CTX_use_certificate_chain_file.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p
    ]
    found.SSL_CTX_use_PrivateKey_file.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    ]
    return found


@contextmanager
def flooding_receiver(
    openssl: ctypes.CDLL, certificate: Path, kind: str, seconds: float
) -> Iterator[int]:
    """Run a receiver that floods each caller for `seconds`; give its port.

    `kind` is "key update" or "ticket". The certificate's file has the key.
    """
    context = openssl.SSL_CTX_new(openssl.TLS_server_method())
    path = str(certificate).encode()
    openssl.SSL_CTX_use_certificate_chain_file(context, path)
    openssl.SSL_CTX_use_PrivateKey_file(context, path, _PEM)

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                flood(sock.fileno())

    def flood(number: int) -> None:
        tls = openssl.SSL_new(context)
        openssl.SSL_set_fd(tls, number)
        if openssl.SSL_accept(tls) == 1:
            openssl.SSL_read(tls, ctypes.create_string_buffer(65536), 65536)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if kind == "ticket":
                    openssl.SSL_new_session_ticket(tls)
                else:
                    openssl.SSL_key_update(tls, _NOT_REQUESTED)
                if openssl.SSL_do_handshake(tls) != 1:
                    break
        openssl.SSL_free(tls)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    listener.close()

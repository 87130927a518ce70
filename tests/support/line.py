"""A bad line: a TCP proxy that delays, holds back or loses what is sent."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

#: A client that is not connected after this time has given up, in seconds.
_PATIENCE = 2.0


class BadLine:
    """A line to the server that `connect` connects to.

    It listens on 127.0.0.1, on `port`; with TLS where there is a context.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._connect = connect
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        #: How long everything is under way, in seconds.
        self.delay = 0.0
        #: How many connections there have been.
        self.accepted = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._lost: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def black_hole(self) -> None:
        """From now on nothing gets through, in either direction."""
        self._flowing.clear()

    def lose(self) -> None:
        """End the clients' connections, and lose what is held back.

        Their kernels do so when nothing has been acknowledged for long.
        The server notices when the line is restored.
        """
        lost, self._clients = self._clients, []
        self._lost.update(lost)
        for client in lost:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Let through what was held back, and all that comes."""
        self._flowing.set()

    def send_to_clients(self, data: bytes) -> None:
        """Say something in the server's name."""
        for client in self._clients:
            client.sendall(data)

    def close(self) -> None:
        """Close every connection."""
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
        came = time.monotonic()
        try:
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
                self._sockets.append(client)
            self._flowing.wait()
            if time.monotonic() - came > _PATIENCE:
                raise TimeoutError
            upstream = self._connect()
        except OSError:
            client.close()
            return
        self._sockets.append(upstream)
        self._clients.append(client)
        threading.Thread(
            target=self._pump, args=(client, upstream), daemon=True
        ).start()
        self._pump(upstream, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay)
                self._flowing.wait()
                if not self._lost.isdisjoint((source, sink)):
                    break
                sink.sendall(data)
        self._flowing.wait()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

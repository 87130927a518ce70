"""A receiver of webhooks to try the service with: logs each call it gets.

usage: python deploy/receiver.py [PORT]

Answers 200 to every method and path. One line a call: time (UTC), method,
path, the webhook-id header, body.
"""

import contextlib
import signal
import socket
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY = 64 * 1024  # bytes that are read and logged
IDLE_SECONDS = 30


class Receiver(BaseHTTPRequestHandler):
    """Logs and answers one connection's calls."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def answer(self) -> None:
        """Read the body, log the call, answer 200."""
        length = self.headers.get("content-length", "0")
        size = int(length) if length.isdigit() else 0
        body = self.rfile.read(min(size, MAX_BODY))
        self.close_connection |= size > MAX_BODY
        log_call(
            self.command, self.path, self.headers.get("webhook-id"), body
        )
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def __getattr__(self, name: str) -> object:
        """Serve every method: the server looks for `do_` and its name."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing of the server's own: a call has its one line."""


def log_call(
    method: str, path: str, webhook_id: str | None, body: bytes
) -> None:
    """Print one line, whatever the caller sent."""
    now = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
    text = body.decode(errors="replace")
    line = f"{now} {method} {path} webhook-id={webhook_id} {text}"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    # In one piece: other threads write as well.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Server(ThreadingHTTPServer):
    """Takes a burst of connections at once."""

    request_queue_size = 1024
    if socket.has_dualstack_ipv6():
        address_family = socket.AF_INET6

    def server_bind(self) -> None:
        """Listen for IPv4 as well."""
        with contextlib.suppress(OSError, AttributeError):
            self.socket.setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0
            )
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing about a caller that hangs up."""


def main(args: list[str]) -> None:
    """Serve until told to stop."""
    server = Server(("", int(args[0]) if args else 8080), Receiver)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])

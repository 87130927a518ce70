"""From a target to a connected socket, through the guard."""

import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from itertools import chain, zip_longest

from apps.webhooks.guard import Guard, Refused
from apps.webhooks.http.connection import Connection
from apps.webhooks.http.exchange import (
    Abort,
    Exchange,
    Failed,
    FailureKind,
)
from apps.webhooks.resolver import Resolver
from apps.webhooks.target import Target

_MAX_ADDRESSES = 8
#: Seconds until the next address is tried beside those that do not answer
#: (RFC 8305, section 5: the Connection Attempt Delay).
NEXT_AFTER = 0.25
#: How long the address that answered last is tried first, in seconds.
_REMEMBERED = 600.0
_MAX_REMEMBERED = 4096

_KINDS = {
    errno.ECONNREFUSED: FailureKind.refused,
    errno.ECONNRESET: FailureKind.refused,  # after it had been accepted
    errno.ETIMEDOUT: FailureKind.connect_timeout,
}


class Dialer:
    """Opens connections to addresses that the guard has passed, to no other.

    With a proxy, connections go to the proxy, which resolves the names; the
    guard then sees the target's host, but none of its addresses.
    """

    def __init__(
        self, guard: Guard, resolver: Resolver, proxy: Target | None
    ) -> None:
        self._guard = guard
        self._resolver = resolver
        self.proxy = proxy
        self._good: dict[str, tuple[str, float]] = {}

    def dial(self, exchange: Exchange) -> Connection:
        """Return a connection; raise Failed if there is none."""
        target = exchange.target
        try:
            self._guard.check_host(target.host)
        except Refused as error:
            raise Failed(FailureKind.blocked, error) from None
        if self.proxy is None:
            host, port = target.host, target.port
            addresses = self._passed(self._resolve(exchange, host))
        else:
            host, port = self.proxy.host, self.proxy.port
            addresses = self._resolve(exchange, host)
        addresses = self._in_order(host, addresses)[:_MAX_ADDRESSES]
        if self.proxy is None:
            _announce(exchange, addresses[0])
        sock, address = _Race(port).run(exchange, addresses)
        if len(addresses) > 1:
            self._remember(host, address)
        return Connection(sock, address)

    def _resolve(self, exchange: Exchange, host: str) -> Sequence[str]:
        try:
            return self._resolver.resolve(host, exchange.remaining())
        except OSError as error:
            raise Failed(FailureKind.dns, _reason(error)) from None

    def _passed(self, addresses: Sequence[str]) -> Sequence[str]:
        """Return the addresses that may be called; raise if none may."""
        passed = []
        refusal = ""
        for address in addresses:
            try:
                self._guard.check(address)
            except Refused as error:
                refusal = refusal or str(error)
            else:
                passed.append(address)
        if not passed:
            raise Failed(FailureKind.blocked, refusal)
        return passed

    def _in_order(self, host: str, addresses: Sequence[str]) -> list[str]:
        """Start with the address that answered last; families take turns."""
        ordered = in_turn(addresses)
        good, until = self._good.get(host, ("", 0.0))
        if good in ordered and time.monotonic() < until:
            ordered.remove(good)
            ordered.insert(0, good)
        return ordered

    def _remember(self, host: str, address: str) -> None:
        if len(self._good) >= _MAX_REMEMBERED:
            self._good.clear()
        self._good[host] = address, time.monotonic() + _REMEMBERED


def _announce(exchange: Exchange, address: str) -> None:
    """Call before_dial with the address; raise Failed if it says no."""
    if exchange.before_dial is not None:
        try:
            exchange.before_dial(address)
        except Abort as error:
            raise Failed(FailureKind.aborted, error) from error


def in_turn(addresses: Sequence[str]) -> list[str]:
    """Return IPv6 and IPv4 addresses in turn (RFC 8305, section 4).

    The family of the resolver's first address begins.
    """
    is_ipv6 = ":" in addresses[0]
    first = [a for a in addresses if (":" in a) is is_ipv6]
    second = [a for a in addresses if (":" in a) is not is_ipv6]
    pairs = zip_longest(first, second)
    return [address for address in chain.from_iterable(pairs) if address]


class _Race:
    """Connects to the first address that answers (RFC 8305, section 5)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._running: dict[int, tuple[socket.socket, str]] = {}
        self._poll = select.poll()
        self._failure = Failed(FailureKind.dns, "the name has no address")

    def run(
        self, exchange: Exchange, addresses: Sequence[str]
    ) -> tuple[socket.socket, str]:
        """Return the socket and its address; raise Failed if none answers.

        The last failure counts. Sockets that lose are closed unused.
        """
        waiting = list(addresses)
        try:
            while waiting or self._running:
                if waiting and not self._begin(waiting.pop(0)):
                    continue
                if won := self._wait(exchange, bool(waiting)):
                    return won
        except TimeoutError:
            for _, address in self._running.values():
                self._failure = Failed(
                    FailureKind.connect_timeout, f"{address} did not answer"
                )
                break
        finally:
            for sock, _ in self._running.values():
                sock.close()
        raise self._failure

    def _begin(self, address: str) -> bool:
        """Begin to connect; tell whether that is under way."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        error = sock.connect_ex((address, self._port))
        if error not in (0, errno.EINPROGRESS):
            self._lose(sock, address, error)
            return False
        self._running[sock.fileno()] = sock, address
        self._poll.register(sock, select.POLLOUT)
        return True

    def _wait(
        self, exchange: Exchange, others_wait: bool
    ) -> tuple[socket.socket, str] | None:
        """Wait until one is connected or the next one is to be tried."""
        next_at = time.monotonic() + NEXT_AFTER
        while self._running:
            left = exchange.remaining()
            if others_wait:
                left = min(left, next_at - time.monotonic())
            if left <= 0:
                return None
            for number, _ in self._poll.poll(1000 * left):
                self._poll.unregister(number)
                sock, address = self._running.pop(number)
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not error:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return sock, address
                self._lose(sock, address, error)
        return None

    def _lose(self, sock: socket.socket, address: str, error: int) -> None:
        sock.close()
        reason = _reason(OSError(error, os.strerror(error)))
        kind = _KINDS.get(error, FailureKind.unreachable)
        self._failure = Failed(kind, f"{address}: {reason}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)

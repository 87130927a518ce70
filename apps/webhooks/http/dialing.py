"""From a target to a connected socket, through the guard."""

import errno
import math
import os
import select
import socket
import time
from collections.abc import Sequence
from itertools import chain, zip_longest

from apps.webhooks.guard import Guard, Refused
from apps.webhooks.http.connection import Connection, seconds_left
from apps.webhooks.http.exchange import Exchange, Failed
from apps.webhooks.resolver import Resolver
from apps.webhooks.results import FailureKind
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
        peer = self.proxy or exchange.target
        try:
            self._guard.check_host(exchange.target.host)
            addresses = self._resolver.resolve(
                peer.host, seconds_left(exchange.deadline)
            )
            if self.proxy is None:
                addresses = self._passed(addresses)
        except Refused as error:
            raise Failed(FailureKind.blocked, error) from None
        except OSError as error:
            raise Failed(FailureKind.dns, error.strerror or error) from None
        ordered = self._in_order(peer.host, addresses)[:_MAX_ADDRESSES]
        if self.proxy is None:
            exchange.before_dial(ordered[0])
        connection = _Race(peer.port, exchange.deadline).run(ordered)
        if len(ordered) > 1:
            self._remember(peer.host, connection.address)
        return connection

    def _passed(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Return the addresses that may be called; Refused if none may."""
        passed, refusals = [], []
        for address in addresses:
            try:
                self._guard.check(address)
            except Refused as error:
                refusals.append(error)
            else:
                passed.append(address)
        if not passed:
            raise refusals[0]
        return tuple(passed)

    def _in_order(self, host: str, addresses: Sequence[str]) -> list[str]:
        """Start with the address that answered last; families take turns."""
        ordered = in_turn(addresses)
        good, until = self._good.get(host, ("", 0.0))
        if time.monotonic() < until:
            ordered.sort(key=lambda address: address != good)
        return ordered

    def _remember(self, host: str, address: str) -> None:
        if len(self._good) >= _MAX_REMEMBERED:
            self._good.clear()
        self._good[host] = address, time.monotonic() + _REMEMBERED


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

    def __init__(self, port: int, deadline: float) -> None:
        self._port = port
        self._deadline = deadline
        self._running: dict[int, tuple[socket.socket, str]] = {}
        self._failure: Failed

    def run(self, addresses: Sequence[str]) -> Connection:
        """Return a connection; raise Failed if no address answers.

        The last failure counts. Sockets that lose are closed unused.
        """
        waiting = list(addresses)
        try:
            while waiting or self._running:
                if waiting:
                    self._begin(waiting.pop(0))
                if won := self._wait(NEXT_AFTER if waiting else math.inf):
                    return Connection(*won, self._deadline)
        except TimeoutError:
            _, address = next(iter(self._running.values()))
            raise Failed(
                FailureKind.connect_timeout, f"{address} did not answer"
            ) from None
        finally:
            for sock, _ in self._running.values():
                sock.close()
        raise self._failure

    def _begin(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        error = sock.connect_ex((address, self._port))
        if error in (0, errno.EINPROGRESS):
            self._running[sock.fileno()] = sock, address
        else:
            self._lose(sock, address, error)

    def _wait(self, seconds: float) -> tuple[socket.socket, str] | None:
        """Wait until one has connected, and return it, or one has failed."""
        if not self._running:
            return None
        poll = select.poll()
        for number in self._running:
            poll.register(number, select.POLLOUT)
        seconds = min(seconds, seconds_left(self._deadline))
        for number, _ in poll.poll(1000 * seconds):
            sock, address = self._running.pop(number)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error:
                return sock, address
            self._lose(sock, address, error)
        return None

    def _lose(self, sock: socket.socket, address: str, error: int) -> None:
        sock.close()
        kind = _KINDS.get(error, FailureKind.unreachable)
        self._failure = Failed(kind, f"{address}: {os.strerror(error)}")

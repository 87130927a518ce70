"""From a target to a connected socket, through the guard."""

import errno
import socket
from collections.abc import Sequence

from apps.webhooks.exchange import Exchange, Failed, FailureKind
from apps.webhooks.guard import Guard, Refused
from apps.webhooks.resolver import Resolver
from apps.webhooks.sockets import DeadlineSocket
from apps.webhooks.target import Target

_MAX_ADDRESSES = 8
_ATTEMPT_SECONDS = 2.0
"""For an address while others are left: a lost SYN is sent again at 1 s."""

_KINDS = {
    errno.ECONNREFUSED: FailureKind.refused,
    errno.ECONNRESET: FailureKind.refused,  # after it had been accepted
    errno.ETIMEDOUT: FailureKind.connect_timeout,
}


class Dialer:
    """Open connections to addresses that the guard has passed, to no other.

    With a proxy, connections go to the proxy, which resolves the names; the
    guard then sees the target's host and no address of it.
    """

    def __init__(
        self, guard: Guard, resolver: Resolver, proxy: Target | None
    ) -> None:
        self._guard = guard
        self._resolver = resolver
        self.proxy = proxy

    def dial(self, exchange: Exchange) -> DeadlineSocket:
        """Return a connected socket; raise Failed if there is none."""
        target = exchange.target
        try:
            self._guard.check_host(target.host)
        except Refused as error:
            raise Failed(FailureKind.blocked, error) from None
        if self.proxy is None:
            port = target.port
            addresses = self._passed(self._resolve(exchange, target.host))
        else:
            port = self.proxy.port
            addresses = self._resolve(exchange, self.proxy.host)
        return _first_connected(exchange, addresses[:_MAX_ADDRESSES], port)

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


def _first_connected(
    exchange: Exchange, addresses: Sequence[str], port: int
) -> DeadlineSocket:
    """Try the addresses in order; the last failure counts."""
    failure = Failed(FailureKind.dns, "the name has no address")
    for left, address in zip(
        range(len(addresses), 0, -1), addresses, strict=True
    ):
        try:
            timeout = exchange.remaining()
            if left > 1:
                timeout = min(timeout / left, _ATTEMPT_SECONDS)
            exchange.address = address
            return _connected(address, port, timeout)
        except TimeoutError:
            failure = Failed(
                FailureKind.connect_timeout, f"{address} did not answer"
            )
        except OSError as error:
            kind = _KINDS.get(error.errno or 0, FailureKind.unreachable)
            failure = Failed(kind, f"{address}: {_reason(error)}")
    raise failure


def _connected(address: str, port: int, timeout: float) -> DeadlineSocket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = DeadlineSocket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    return error.strerror or str(error)

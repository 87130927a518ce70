"""Resolves names by a deadline, which getaddrinfo() does not have.

A lookup runs in a daemon thread of its own. All threads that ask for the same
name meanwhile share it. So a name whose servers hang costs one thread, however
often it is called.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence

from apps.webhooks.target import is_ip_literal

Lookup = Callable[[str], Sequence[str]]
"""Gives a name's addresses, best first; raises OSError if it has none."""

CACHE_SECONDS = 5.0
"""How long an answer is good for, in seconds; its real TTL is unknown."""

_MAX_CACHED = 1024
# A call waits for a name for 10 s at most, but a resolver may hang for 30 s:
# 64 worker threads that call only such names have 192 lookups under way.
_MAX_LOOKUPS = 256


def system_lookup(host: str) -> Sequence[str]:
    """Ask the operating system's resolver.

    The name goes in as bytes: a str would be IDNA-encoded once more.
    """
    found = socket.getaddrinfo(
        host.encode("ascii"), None, type=socket.SOCK_STREAM
    )
    return [str(info[4][0]) for info in found]


class _Pending:
    """A lookup under way; `done` is set after the other two."""

    __slots__ = ("addresses", "done", "error")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.error: OSError | None = None
        self.done = threading.Event()


class Resolver:
    """Resolve names for many threads at once."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._pending: dict[str, _Pending] = {}
        self._slots = threading.BoundedSemaphore(_MAX_LOOKUPS)

    def resolve(self, host: str, timeout: float) -> tuple[str, ...]:
        """Return the addresses of a Target's host, at least one.

        Raises TimeoutError after `timeout` seconds, another OSError if the
        name has no address or too many lookups hang already.
        """
        if is_ip_literal(host):
            return (host,)
        with self._lock:
            expires, addresses = self._cache.get(host, (0.0, ()))
            if time.monotonic() < expires:
                return addresses
            pending = self._pending.get(host)
            starts = pending is None
            if pending is None:
                if not self._slots.acquire(blocking=False):
                    raise OSError("too many lookups of other names hang")
                pending = self._pending[host] = _Pending()
        if starts:
            self._start(host, pending)
        if not pending.done.wait(timeout):
            raise TimeoutError("the name was not resolved in time")
        if pending.error is not None:
            # Threads that wait share the stored error, so each raises its own.
            raise OSError(*pending.error.args)
        return pending.addresses

    def _start(self, host: str, pending: _Pending) -> None:
        try:
            threading.Thread(
                target=self._run,
                args=(host, pending),
                name=f"lookup {host}",
                daemon=True,
            ).start()
        except RuntimeError as error:  # no more threads
            pending.error = OSError(str(error))
            self._finish(host, pending)

    def _run(self, host: str, pending: _Pending) -> None:
        try:
            found = tuple(dict.fromkeys(self._lookup(host)))
            if not found:
                raise OSError("the name has no address")
            pending.addresses = found
        except OSError as error:
            pending.error = error
        except Exception as error:
            # A name that the resolver's library can't take.
            pending.error = OSError(str(error))
        self._finish(host, pending)

    def _finish(self, host: str, pending: _Pending) -> None:
        with self._lock:
            del self._pending[host]
            if pending.error is None:
                if len(self._cache) >= _MAX_CACHED:
                    self._cache.clear()
                expires = time.monotonic() + CACHE_SECONDS
                self._cache[host] = expires, pending.addresses
        self._slots.release()
        pending.done.set()

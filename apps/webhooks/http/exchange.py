"""One call while it goes on: its limits, its hooks, how far it has come."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from apps.webhooks.target import Target


class FailureKind(StrEnum):
    """Why a call brought no answer."""

    dns = "dns"  # no address for the name
    blocked = "blocked"  # the guard refused the host or all addresses
    refused = "refused"
    connect_timeout = "connect_timeout"
    unreachable = "unreachable"
    proxy = "proxy"  # the egress proxy gave no tunnel
    tls = "tls"  # no handshake, or no certificate to trust
    aborted = "aborted"  # a hook said no, or ran past the deadline
    timeout = "timeout"  # no whole head of an answer by the deadline
    reset = "reset"
    stale = "stale"  # a reset, without an answer, of a reused connection
    protocol = "protocol"  # what came is no HTTP answer

    @property
    def unsent(self) -> bool:
        """Whether the receiver got no request: calling again is safe."""
        return self not in _AFTER


_AFTER = frozenset(
    {
        FailureKind.timeout,
        FailureKind.reset,
        FailureKind.stale,
        FailureKind.protocol,
    }
)


class Abort(Exception):
    """Raised by a hook: the call is not to be made, for the reason given."""


class Failed(Exception):
    """The call ends here, with this kind and detail."""

    def __init__(self, kind: FailureKind, detail: object) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = str(detail)


@dataclass(slots=True)
class Exchange:
    """The state of one call; only the calling thread touches it.

    target       where it goes
    deadline     a value of time.monotonic(), for all of it
    before_dial  called with the address, before that is connected to
    before_send  called when connected, right before the first byte
    on_sent      called once, when the last byte has left
    on_answer    called with the status if the body is slow to follow
    sent         whether the request's last byte has left
    """

    target: Target
    deadline: float
    before_dial: Callable[[str], None] | None = None
    before_send: Callable[[], None] | None = None
    on_sent: Callable[[], None] | None = None
    on_answer: Callable[[int], None] | None = None
    sent: bool = False

    def remaining(self) -> float:
        """Return the seconds left; raise TimeoutError if there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def is_over(self) -> bool:
        """Tell whether the deadline has passed, or is about to."""
        return time.monotonic() > self.deadline - 0.01

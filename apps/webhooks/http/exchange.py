"""One call while it goes on, and why it may bring no answer."""

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
        return self not in {"timeout", "reset", "stale", "protocol"}


class Failed(Exception):
    """The call ends here, with this kind; the text tells the details."""

    def __init__(self, kind: FailureKind, detail: object) -> None:
        super().__init__(str(detail))
        self.kind = kind


class Abort(Failed):
    """Raised by a hook: the call is not to be made, for the reason given."""

    def __init__(self, reason: str) -> None:
        super().__init__(FailureKind.aborted, reason)


@dataclass(slots=True)
class Exchange:
    """The state of one call, whose hooks are those of WebhookClient.call.

    deadline   a value of time.monotonic(), for all of it
    sent       whether the request's last byte has left
    is_marked  whether on_sent was called, which comes once
    """

    target: Target
    deadline: float
    before_dial: Callable[[str], None]
    before_send: Callable[[], None]
    on_sent: Callable[[], None]
    on_answer: Callable[[int], None]
    sent: bool = False
    is_marked: bool = False

    def is_over(self) -> bool:
        """Tell whether the deadline has passed, or is about to."""
        return time.monotonic() > self.deadline - 0.01

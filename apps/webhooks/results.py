"""What came of a call.

All processes use this. Only workers call, and import the client.
"""

from dataclasses import dataclass
from enum import StrEnum

_MAX_DETAIL = 200


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


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call: a status code, or a failure.

    status_code  None if no whole head of an answer came by the deadline
    failure      None if there is a status code
    detail       about the failure: one printable line of <= 200 characters
    sent         whether the last byte of the request has left. If it was
                 cut off half-way, this and failure.unsent are both False.
    body         the first bytes of the answer's body, <= 1 KiB, not decoded
    duration     seconds, from before the name was resolved
    hung         whether it failed because the deadline passed
    retry_after  the answer's header of that name, if it has one
    """

    status_code: int | None
    failure: FailureKind | None
    detail: str
    sent: bool
    body: bytes
    duration: float
    hung: bool = False
    retry_after: str | None = None

    @property
    def error(self) -> str | None:
        """Return the failure's kind and detail, None if there is none."""
        if self.failure is None:
            return None
        return f"{self.failure.value}: {self.detail}"


def printable(text: str) -> str:
    """Return a text, perhaps a receiver's, as one printable, bounded line."""
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_DETAIL])

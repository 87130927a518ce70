"""One call while it goes on, and why it may bring no answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from apps.webhooks.results import FailureKind
from apps.webhooks.target import Target


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

"""Who is being called, and how that goes."""

import threading
from dataclasses import dataclass

Origin = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Deferral:
    """A call that can't go out now."""

    wait: float
    hanging: bool
    reason: str


class Destinations:
    """The destinations of one process."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()

    def enter(self, origin: Origin) -> Deferral | None:
        """Take a slot."""
        return None

    def leave(self, origin: Origin, *, hung: bool) -> None:
        """Give it back."""

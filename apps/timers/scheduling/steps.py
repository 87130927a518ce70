"""A pass's steps, each run by itself: if one fails, the others still run."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from apps.core.outages import TROUBLES, describe
from apps.core.reaching import is_outage

T = TypeVar("T")

#: How long a pass may take, in seconds. The next pass does what is left. In
#: between the process heeds a stop, and every step has its turn.
_LONGEST = 1.0


class Turn:
    """How long a pass may go on: not for long, and not after a stop."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._ends_at = time.monotonic() + _LONGEST

    def is_over(self) -> bool:
        """Tell whether the pass is to end; asked after each batch."""
        return self._stopping.is_set() or time.monotonic() >= self._ends_at


def without_end() -> bool:
    """Tell that a pass may go on for as long as there is something to do."""
    return False


class Steps:
    """Runs the steps of one pass, and keeps the errors of those that fail."""

    def __init__(self, sentence: str) -> None:
        """Take the sentence to log when a step fails."""
        self._sentence = sentence
        self.failed: dict[str, str] = {}

    def run(self, name: str, step: Callable[[], T]) -> T | None:
        """Run a step and return what it returns, None if it failed.

        Raises `database.UNAVAILABLE` when Postgres is away, since the other
        steps would only wait for it as well. Any other error is logged, once
        a minute for each step.
        """
        TROUBLES.begins(name)
        try:
            result = step()
        except Exception as error:
            if is_outage(error):
                raise
            TROUBLES.note(name, self._sentence, error)
            self.failed[name] = describe(error)
            return None
        finally:
            TROUBLES.ended()
        TROUBLES.worked(name)
        return result

"""Warnings that may be due many times a second, logged now and then."""

import logging
import re
import threading
import time


class Repeated:
    """Logs a warning that may be due many times a second.

    It is logged at once, again for each new reason, and once a minute for
    the same reason. Each line says how often it was due since the last line.
    """

    #: Seconds between two lines with the same reason.
    PAUSE = 60.0
    #: How many reasons are told apart within a pause, at most.
    REASONS = 10

    def __init__(self, logger: logging.Logger, sentence: str) -> None:
        self._logger = logger
        self._sentence = sentence
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}
        self._count = 0

    def note(self, reason: str = "", /, **details: object) -> None:
        """Log the warning with its details, unless it was logged just now."""
        # Another port or memory address does not make a new reason.
        reason = re.sub(r"0x[0-9a-f]+|\d+", "#", reason)
        with self._lock:
            now = time.monotonic()
            self._count += 1
            if now < self._logged.get(reason, -self.PAUSE) + self.PAUSE:
                return
            self._logged = {
                other: logged for other, logged in self._logged.items()
                if now < logged + self.PAUSE
            }
            if len(self._logged) >= self.REASONS:
                return
            self._logged[reason] = now
            count, self._count = self._count, 0
        self._logger.warning(
            self._sentence, extra={**details, "count": count}
        )

    def ended(self) -> bool:
        """Log the next one at once; return whether one was logged before."""
        with self._lock:
            had_one = bool(self._logged)
            self._logged.clear()
            self._count = 0
        return had_one

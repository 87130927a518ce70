"""Marks: noting that a request has left, while its answer is awaited.

Should the worker die before the answer is recorded, the mark is what
keeps another worker from sending the request again.
"""

import logging
import threading
from uuid import UUID

from apps.timers import store
from apps.timers.database import UNAVAILABLE
from apps.timers.records import Mark

logger = logging.getLogger(__name__)


class MarkWriter:
    """One thread that writes marks; nothing waits for it.

    Marks that come while one write is under way go together in the next.
    A mark whose answer came meanwhile is not written at all.
    """

    def __init__(self) -> None:
        self._pending: dict[UUID, Mark] = {}
        self._news = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name="marks", daemon=True
        )
        self._thread.start()

    def add(self, mark: Mark) -> None:
        """Have the mark written, unless it is discarded before."""
        with self._news:
            self._pending[mark.token] = mark
            self._news.notify()

    def discard(self, token: UUID) -> None:
        """Drop the mark: the answer is there and will be recorded."""
        with self._news:
            self._pending.pop(token, None)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is pending and end the thread."""
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._pending or self._stopping)
                marks = list(self._pending.values())
                self._pending.clear()
            if not marks:
                return
            if not self._write(marks):
                self._put_back(marks)

    def _write(self, marks: list[Mark]) -> bool:
        try:
            store.mark_sent(marks)
        except UNAVAILABLE:
            return False
        except Exception:  # one bad write must not end the thread
            logger.exception("marks not written")
        return True

    def _put_back(self, marks: list[Mark]) -> None:
        """Keep marks for when Postgres is back, newer ones unchanged."""
        with self._news:
            for mark in marks:
                self._pending.setdefault(mark.token, mark)
            self._news.wait(0.2)
            if self._stopping:
                self._pending.clear()

"""Marks: they note that a request has left, or its answer's status.

If the worker dies before the answer is recorded, the mark keeps another worker
from sending the request again. If the mark has the answer's status, that
status decides what follows.
"""

import logging
import threading
import time
from uuid import UUID

from apps.core.database import UNAVAILABLE
from apps.core.per_process import PerProcess
from apps.timers.storage import claiming
from apps.timers.storage.records import Mark

logger = logging.getLogger(__name__)

#: How long the mark of an answered request waits for the answer's record,
#: in seconds, before it is written after all.
_GRACE = 0.5


class MarkWriter:
    """One thread that writes marks; nothing waits for it.

    Marks that come while one write is under way go together in the next.
    A mark whose answer is recorded meanwhile is not written at all.
    """

    def __init__(self) -> None:
        self._pending: dict[UUID, Mark] = {}
        #: The marks of answered requests, and since when they wait, in order.
        self._answered: dict[UUID, tuple[float, Mark]] = {}
        self._news = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name="marks", daemon=True
        )
        self._thread.start()

    def add(self, mark: Mark) -> None:
        """Write the mark soon, unless it is discarded before."""
        with self._news:
            self._pending[mark.token] = mark
            self._news.notify()

    def answered(self, mark: Mark) -> None:
        """Let the mark wait a little: the answer should be recorded soon.

        It replaces the claim's earlier mark, if that is not written yet.
        """
        with self._news:
            self._pending.pop(mark.token, None)
            # The thread looks at it the next time that it wakes.
            self._answered[mark.token] = time.monotonic(), mark

    def discard(self, *tokens: UUID) -> None:
        """Drop the marks: what came of their requests is recorded."""
        with self._news:
            for token in tokens:
                self._pending.pop(token, None)
                self._answered.pop(token, None)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is pending and end the thread."""
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._news:
                marks = self._wait()
            if not marks:
                return
            if not self._write(marks):
                self._put_back(marks)

    def _wait(self) -> list[Mark]:
        """Return what is to be written now; nothing if it is time to end."""
        while not self._pending and not self._stopping:
            left = None
            for since, _ in self._answered.values():
                left = since + _GRACE - time.monotonic()
                break
            if left is not None and left <= 0:
                break
            self._news.wait(left)
        marks = list(self._pending.values())
        self._pending.clear()
        latest = time.monotonic() - _GRACE
        for token, (since, mark) in list(self._answered.items()):
            if since > latest and not self._stopping:
                break
            marks.append(mark)
            del self._answered[token]
        return marks

    def _write(self, marks: list[Mark]) -> bool:
        try:
            claiming.mark_sent(marks)
        except UNAVAILABLE:
            return False
        except Exception:  # one bad write must not end the thread
            logger.exception("marks not written")
        return True

    def _put_back(self, marks: list[Mark]) -> None:
        """Keep marks until Postgres is back; leave newer ones unchanged."""
        with self._news:
            for mark in marks:
                if mark.token not in self._answered:
                    self._pending.setdefault(mark.token, mark)
            self._news.wait(0.2)
            if self._stopping:
                self._pending.clear()
                self._answered.clear()


@PerProcess
def mark_writer() -> MarkWriter:
    """Return this process's writer of marks, started on first use."""
    return MarkWriter()


def close_mark_writer() -> None:
    """Write the marks that are left; a later mark starts another writer."""
    if (writer := mark_writer.forget()) is not None:
        writer.close()

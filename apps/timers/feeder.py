"""The feeder: in standalone, a worker feeds itself from Postgres.

It takes only what is due within two seconds and leaves it unmarked, so a
killed process hides nothing: who starts next reads the same rows again.
"""

import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

from apps.broker.memory import MemoryBroker
from apps.timers import dispatcher, store
from apps.timers.database import UNAVAILABLE
from apps.timers.outages import POSTGRES
from apps.timers.publishing import outgoing
from apps.timers.records import Near
from apps.timers.wakeups import Wakeups

logger = logging.getLogger(__name__)

_AHEAD = timedelta(seconds=2)
_POLL = 1.0  # seconds
#: At most so many timers of a kind are held in memory.
_MOST = 5_000
#: A pass is followed by a pause of so many times its own length, so that
#: news cannot keep the feeder, and Postgres, busy.
_REST = 2


class Feeder:
    """A thread that puts near timers into the process's memory broker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="feeder", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(2)

    def run_once(self) -> int:
        """Feed what is near and what is overdue; return how many."""
        dispatcher.take_over()
        return sum(
            self._feed(store.due(overdue=overdue, ahead=_AHEAD, limit=_MOST))
            for overdue in (False, True)
        )

    def _feed(self, timers: Sequence[Near]) -> int:
        fresh = [t for t in timers if not self._broker.known(str(t.id))]
        for message, delay in outgoing(fresh):
            self._broker.enqueue(message, delay=delay)
        return len(fresh)

    def _run(self) -> None:
        wakeups = Wakeups(self._stopping)
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.run_once()
                POSTGRES.worked()
            except UNAVAILABLE as error:
                POSTGRES.failed(error=str(error).strip())
            except Exception:  # this thread must outlive any single pass
                logger.exception("feeding failed; trying again")
            self._stopping.wait((time.monotonic() - began) * _REST)
            wakeups.wait(_POLL)
        wakeups.close()

"""Waiting for an inbox's next call, however many wait."""

import threading
import time

from apps.core.database import UNAVAILABLE
from apps.core.processes import PerProcess
from apps.inbox import storage

#: How often Postgres is asked while anybody waits, in seconds.
_PAUSE = 0.1


class Arrivals:
    """Wakes those who wait; one thread looks for all of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = 0
        #: The last id of each inbox that has been seen.
        self._last: dict[str, int] = {}

    def wait(self, inbox: str, after: int, seconds: float) -> None:
        """Return when a call has come after the id `after`, or in time."""
        with self._changed:
            self._waiting += 1
            if self._waiting == 1:
                self._last = {}
                threading.Thread(
                    target=self._watch, args=(self._last,),
                    name="arrivals", daemon=True,
                ).start()
            self._changed.wait_for(
                lambda: self._last.get(inbox, 0) > after, seconds
            )
            self._waiting -= 1
            if not self._waiting:
                self._last = {}

    def _watch(self, mine: dict[str, int]) -> None:
        """Look for calls as long as those wait who have begun with `mine`."""
        seen = 0
        while True:
            try:
                found = storage.news(seen)
            except UNAVAILABLE:  # those who wait will notice
                found = {}
            with self._changed:
                if self._last is not mine:
                    return
                mine.update(found)
                seen = max(mine.values(), default=0)
                self._changed.notify_all()
            time.sleep(_PAUSE)


#: This process's arrivals.
arrivals = PerProcess(Arrivals)

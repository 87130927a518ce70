"""The thread that adds up what happened, in dispatchers."""

import threading
import time

from apps.core.outages import TROUBLES
from apps.core.reaching import is_outage
from apps.monitoring.rollups import adding

#: The pause before tallies are added again, in seconds: pages are that old.
INTERVAL = 2.0
#: How often what is too old is removed, in seconds.
_FORGET = 600.0
_NAME = "adding up what happened"


class RollUps:
    """Adds tallies to the roll-ups every two seconds.

    Any number may run, in any processes: one adds at a time.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._forget_at = time.monotonic() + INTERVAL
        self._thread = threading.Thread(
            target=self._run, name="roll-ups", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the batch that is under way."""
        self._stopping.set()
        self._thread.join(2)

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL):
            try:
                self._round()
                TROUBLES.worked(_NAME)
            except Exception as error:
                if is_outage(error):  # others report that
                    continue
                TROUBLES.note(
                    _NAME, "the pages' numbers are old; trying again", error
                )

    def _round(self) -> None:
        while adding.add() == adding.BATCH:
            if self._stopping.is_set():
                return
        if time.monotonic() >= self._forget_at:
            for _ in adding.forget():
                if self._stopping.is_set():
                    return
            self._forget_at = time.monotonic() + _FORGET

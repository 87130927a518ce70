"""The feeder: in standalone, a worker feeds itself from Postgres.

It takes only timers that are due within two seconds, and does not store that.
So a killed process hides nothing: the next one reads the same rows again.
"""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from apps.broker.interface import OVERDUE
from apps.broker.memory import MemoryBroker
from apps.core.database import UNAVAILABLE
from apps.core.outages import POSTGRES, TROUBLES, describe
from apps.monitoring.heartbeat import Health, Sign
from apps.timers import counting
from apps.timers.scheduling import dispatcher, holding
from apps.timers.scheduling.publishing import outgoing
from apps.timers.scheduling.sharing import PAUSE, Sharing
from apps.timers.scheduling.steps import Steps, Turn
from apps.timers.scheduling.wakeups import Wakeups
from apps.timers.storage import queueing, taking_over
from apps.timers.storage.records import DueMessage

_AHEAD = timedelta(seconds=2)
_POLL = 1.0  # seconds
#: How many timers of a kind are held in memory at most.
_MOST = 5_000
#: The pause after a pass is this many times as long as the pass. So news can't
#: keep the feeder, and Postgres, busy.
_REST = 2


class Feeder:
    """A thread that puts near timers into the process's memory broker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._health = Health()
        self._sharing = Sharing(promote=False)
        #: Whether Postgres has more overdue timers than are held in memory;
        #: and whether some of them are shared out: the next pass begins soon.
        self._has_more = self._shares = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="feeder", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(2)

    def sign(self) -> Sign:
        """Return when the last good pass was, and what went wrong since."""
        return self._health.sign()

    def run_once(self) -> int:
        """Feed what is near and what is overdue; return how many.

        While calls are held, that is nothing. Each step is done even if
        others fail. Raises `database.UNAVAILABLE`
        when Postgres is away.
        """
        steps = Steps("feeding failed; trying again")
        turn = Turn(self._stopping)
        steps.run("taking over", partial(dispatcher.take_over, turn.is_over))
        fed = 0
        self._shares = False
        if steps.run("looking for a hold", holding.current) is None:
            fed += steps.run(
                "feeding what is near", self._ahead
            ) or 0
            fed += steps.run(
                "feeding what is overdue", self._overdue
            ) or 0
        steps.run("freeing what is stuck", taking_over.free_stuck)
        counting.passed(is_good=not steps.failed)
        if steps.failed:
            self._health.bad()
        else:
            self._health.good()
        return fed

    def _ahead(self) -> int:
        return self._feed(
            queueing.due(overdue=False, ahead=_AHEAD, limit=_MOST)
        )

    def _overdue(self) -> int:
        fed = self._feed(self._sharing.next())
        if not self._has_more or self._broker.depth(OVERDUE) < _MOST // 2:
            found = queueing.due(overdue=True, ahead=_AHEAD, limit=_MOST)
            fed += self._feed(found)
            self._has_more = len(found) == _MOST
        if self._has_more:
            self._sharing.look()
            self._shares = self._sharing.goes_on
        return fed

    def _feed(self, timers: Sequence[DueMessage]) -> int:
        now = time.monotonic()
        fresh = [
            timer for timer in timers
            if not self._broker.known(str(timer.id), max(timer.at, now))
        ]
        for message, delay in outgoing(fresh):
            self._broker.enqueue(message, delay=delay)
        return len(fresh)

    def _run(self) -> None:
        wakeups = Wakeups(self._stopping)
        while not self._stopping.is_set():
            began = time.monotonic()
            self._pass()
            if self._shares:
                self._stopping.wait(PAUSE)
            else:
                self._stopping.wait((time.monotonic() - began) * _REST)
                wakeups.wait(_POLL)
        wakeups.close()

    def _pass(self) -> None:
        """Do one pass; if it fails, this thread still goes on."""
        try:
            self.run_once()
            POSTGRES.worked()
        except UNAVAILABLE as error:
            POSTGRES.failed(error=str(error).strip())
            self._health.bad(f"Postgres can't be reached: {describe(error)}")
            counting.passed(is_good=False)
        except Exception as error:
            TROUBLES.note("the pass", "feeding failed; trying again", error)
            self._health.bad()
            counting.passed(is_good=False)
        else:
            TROUBLES.worked("the pass")

"""Fairness between accounts: small backlogs do not wait for large ones.

Overdue timers are queued in the order of their times, so that those of one
account would wait for another one's 100,000. While some have to wait, accounts
with few of them have a way of their own: up to 1,000 timers a second are fired
as if they were on time. Large backlogs take turns behind these
(docs/decisions/0035).
"""

import threading
import time
from collections.abc import Mapping
from uuid import UUID

from apps.broker.interface import ON_TIME, get_broker
from apps.core.outages import TROUBLES
from apps.core.reaching import is_outage
from apps.timers.storage import queueing
from apps.timers.storage.records import DueMessage

#: How many timers that go this way may wait for workers. Those on time wait
#: for them.
MOST = 100
#: The pause before more of them go this way, in seconds.
PAUSE = 0.1
#: How many a look finds, at most.
MOST_FOUND = 5_000
#: The pause after a look is this many times as long as the look.
_REST = 9


class Sharing:
    """Finds the overdue timers of accounts that have few.

    A look reads the whole backlog, so a thread of its own does that. No pass
    waits for it.
    """

    def __init__(self, *, promote: bool) -> None:
        """Take whether the timers are to be marked as queued."""
        self._promote = promote
        self._found: list[UUID] = []
        self._next_at = 0.0
        #: The account that had the last turn of the large backlogs.
        self._last = 0
        self._looking: threading.Thread | None = None
        self._rests_until = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether there is more to share, or there may soon be."""
        return bool(self._found) or self._is_looking()

    def next(self) -> list[DueMessage]:
        """Return which timers are next; none before the pause is over."""
        now = time.monotonic()
        if not self._found or now < self._next_at:
            return []
        self._next_at = now + PAUSE
        waiting = get_broker().depth(ON_TIME)
        if waiting is None or waiting >= MOST:
            return []
        # A look that ends now replaces the list.
        found = self._found
        timers = found[:MOST - waiting]
        del found[:MOST - waiting]
        return queueing.overdue_among(timers, promote=self._promote)

    def look(self) -> None:
        """Look in the background, unless it does so or rests."""
        if self._is_looking() or time.monotonic() < self._rests_until:
            return
        self._looking = threading.Thread(
            target=self._look, name="sharing", daemon=True
        )
        self._looking.start()

    def _is_looking(self) -> bool:
        return self._looking is not None and self._looking.is_alive()

    def _look(self) -> None:
        began = time.monotonic()
        try:
            self._found = self._find()
        except Exception as error:  # passes tell of outages
            if not is_outage(error):
                TROUBLES.note(
                    "sharing", "looking for small backlogs failed", error
                )
        else:
            TROUBLES.worked("sharing")
        now = time.monotonic()
        self._rests_until = now + _REST * (now - began)

    def _find(self) -> list[UUID]:
        """Return the timers of small backlogs, then some of a large one."""
        backlogs = queueing.backlogs(limit=MOST_FOUND + 1)
        small, turn = chosen(backlogs, self._last)
        found: list[UUID] = []
        if small:
            found += queueing.overdue_of(small, limit=MOST_FOUND)
        if turn is not None:
            self._last = turn
            room = MOST_FOUND - len(found)
            found += queueing.overdue_of([turn], limit=room)
        return found


def chosen(
    backlogs: Mapping[int, int], last: int
) -> tuple[list[int], int | None]:
    """Return the accounts with small backlogs, and one with a large one.

    `backlogs` says how many timers each account has, the smallest number
    first. Small ones have MOST_FOUND together at most. The large ones take
    turns; `last` had the last one. If there is only one, it needs none.
    """
    small: list[int] = []
    total = 0
    for account, timers in list(backlogs.items())[:-1]:
        total += timers
        if total > MOST_FOUND:
            break
        small.append(account)
    large = sorted(set(backlogs) - set(small))
    if len(large) < 2:
        return small, None
    return small, next((each for each in large if each > last), large[0])

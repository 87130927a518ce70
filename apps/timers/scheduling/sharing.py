"""Fairness between accounts: small backlogs do not wait for large ones.

Overdue timers are queued in the order of their times, so that those of one
account would wait for another one's 100,000. While some have to wait, accounts
with few of them have a way of their own: up to 100 timers a pass are fired as
if they were on time (docs/decisions/0035).
"""

import threading
import time
from collections.abc import Mapping
from uuid import UUID

from apps.core.outages import TROUBLES
from apps.timers.scheduling.steps import is_outage
from apps.timers.storage import queueing
from apps.timers.storage.records import DueMessage

#: How many timers go this way in a pass, at most. Those on time wait for them.
MOST = 100
#: How many a look finds, at most.
MOST_FOUND = 1_000
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
        self._looking: threading.Thread | None = None
        self._rests_until = 0.0

    def next(self) -> list[DueMessage]:
        """Return what was found and is next; if nothing is, begin a look."""
        if not self._found:
            self._begin()
            return []
        timers, self._found = self._found[:MOST], self._found[MOST:]
        return queueing.overdue_among(timers, promote=self._promote)

    def _begin(self) -> None:
        """Look in the background, unless it does so or rests."""
        is_looking = self._looking is not None and self._looking.is_alive()
        if is_looking or time.monotonic() < self._rests_until:
            return
        self._looking = threading.Thread(
            target=self._look, name="sharing", daemon=True
        )
        self._looking.start()

    def _look(self) -> None:
        began = time.monotonic()
        try:
            accounts = chosen(queueing.backlogs(limit=MOST_FOUND + 1))
            if accounts:
                self._found = queueing.overdue_of(accounts, limit=MOST_FOUND)
        except Exception as error:  # passes tell of outages
            if not is_outage(error):
                TROUBLES.note(
                    "sharing", "looking for small backlogs failed", error
                )
        else:
            TROUBLES.worked("sharing")
        now = time.monotonic()
        self._rests_until = now + _REST * (now - began)


def chosen(backlogs: Mapping[int, int]) -> list[int]:
    """Return the accounts whose timers are next.

    `backlogs` says how many each account has, the smallest number first.
    Together they have MOST_FOUND at most, unless it is only one. The largest
    backlog, which may be the only one, is left to the usual way.
    """
    accounts: list[int] = []
    total = 0
    for account, timers in list(backlogs.items())[:-1]:
        total += timers
        if accounts and total > MOST_FOUND:
            break
        accounts.append(account)
    return accounts

"""Fairness between accounts: small backlogs do not wait for large ones.

Overdue timers are queued in the order of their times, so that those of one
account would wait for another one's 100,000. While some have to wait, accounts
with few of them have a way of their own: up to 100 timers at a time are fired
as if they were on time (docs/decisions/0035).
"""

import time
from collections.abc import Mapping

from apps.timers.storage import queueing
from apps.timers.storage.records import DueMessage

#: The most timers that go this way at a time. Timers on time wait for them.
MOST = 100
#: The pause after a look is this many times as long as the look.
_REST = 9


class Sharing:
    """Finds the overdue timers of accounts that have few."""

    def __init__(self, *, promote: bool) -> None:
        """Take whether the timers are to be marked as queued."""
        self._promote = promote
        self._rests_until = 0.0

    def next(self) -> list[DueMessage]:
        """Return the timers that are next, none during a rest."""
        began = time.monotonic()
        if began < self._rests_until:
            return []
        try:
            accounts = chosen(queueing.backlogs(limit=MOST + 1))
            if not accounts:
                return []
            return queueing.overdue_of(
                accounts, limit=MOST, promote=self._promote
            )
        finally:
            now = time.monotonic()
            self._rests_until = now + _REST * (now - began)


def chosen(backlogs: Mapping[int, int]) -> list[int]:
    """Return the accounts whose timers are next, those with fewest first.

    Together they have MOST timers at most, unless it is only one. The largest
    backlog is left to the usual way. So is the only one.
    """
    accounts: list[int] = []
    total = 0
    for account, timers in list(backlogs.items())[:-1]:
        total += timers
        if accounts and total > MOST:
            break
        accounts.append(account)
    return accounts

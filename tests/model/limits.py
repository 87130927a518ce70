"""What must be true of the limit of timers that have not ended.

It looks at the rows whenever something was written. A limit stays for the
rest of a game.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from uuid import UUID

from tests.model.life import must
from tests.model.postgres import Row

#: The pause after a count, for each timer that there may be.
PAUSE = timedelta(seconds=1)


class Limit:
    """Keeps account of how many timers there are beside how many may be."""

    def __init__(self, most: int) -> None:
        self._most = most
        #: How many there may be; more if there were before. None: not known.
        self._bound: int | None = None
        self._counted_at: object = None
        #: When timers were first seen to have ended.
        self._ended: dict[UUID, float] = {}

    def observed(
        self, rows: Mapping[UUID, Row], limit: Row, now: float
    ) -> None:
        """Check that no more timers are stored, or may be, than the limit."""
        at = -math.inf if self._bound is None else now
        self._ended = {
            each: self._ended.get(each, at)
            for each, row in rows.items() if row["outcome"]
        }
        living = len(rows) - len(self._ended)
        must(
            self._bound is None or living <= self._bound,
            "more timers were set than the limit",
        )
        self._bound = max(self._most, living)
        room = limit["room"]
        must(
            not room or room + living <= self._most,
            "there is more room than the limit leaves",
        )
        self._check_pause(limit)

    def _check_pause(self, limit: Row) -> None:
        before, self._counted_at = self._counted_at, limit["counted_at"]
        must(
            before in (None, limit["counted_at"])
            or limit["counted_at"] - before >= self._most * PAUSE,
            "timers were counted again before the pause was over",
        )

    def check_refusal(
        self, timers: Iterable[UUID], since: float, wanted: int
    ) -> None:
        """Check that there was no room for so many more timers.

        `since` is when the request began. Those that have ended since the
        last count may take room.
        """
        start = since - (self._most * PAUSE).total_seconds()
        there = sum(self._ended.get(each, start) >= start for each in timers)
        must(there + wanted > self._most, "refused, although there is room")

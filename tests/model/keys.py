"""What must be true of keys, and of requests that are repeated.

It hears of every timer that appears and of every event that is kept, each
with the request that brought it about.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from apps.timers.storage.records import NamedTimer
from tests.model.checker import Checker
from tests.model.life import TICK, Life, must
from tests.model.postgres import Row, maybe_seconds, seconds

if TYPE_CHECKING:
    from tests.model.requests import Request

#: How long a request's key is remembered, in seconds.
DAY = 86_400.0


@dataclass(frozen=True)
class Remembered:
    """The first request with an `Idempotency-Key`."""

    timer_id: UUID
    fingerprint: bytes
    time_left: int
    at: float


class Keys:
    """Keeps account of who has which key."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        #: By the requests' keys.
        self.remembered: dict[str, Remembered] = {}
        #: How far `extend` may move a key's timer, by the keys.
        self.bounds: dict[str, float | None] = {}

    def has(self, life: Life) -> bool:
        """Tell whether a timer lives and goes by its key."""
        return life.has_key and not self.checker.has_ended(life.id)

    def holders(self, key: str) -> list[Life]:
        """Return the timers that have a key: one at most."""
        lives = self.checker.lives.values()
        return [x for x in lives if x.key == key and self.has(x)]

    def stored(self, asked: NamedTimer, row: Row, request: "Request") -> None:
        """Follow a timer that a request has stored."""
        at = seconds(row["created_at"])
        life = self.checker.created(asked.timer, at)
        must(asked.timer.id not in request.made, "stored twice")
        request.made.add(life.id)
        if asked.key is not None:
            for other in self.holders(asked.key):
                must(
                    asked.takes_key and other.closed_at >= request.since,
                    "two timers have one key",
                )
                other.has_key = False
            life.key, life.has_key = asked.key, True
            self.bounds[asked.key] = maybe_seconds(asked.latest_at)
        if asked.request_key is not None:
            key = asked.request_key
            first = self.remembered.get(key.key)
            must(
                first is None or at - first.at > DAY,
                "one request has stored two timers",
            )
            self.remembered[key.key] = Remembered(
                life.id, key.fingerprint, key.time_left, at
            )

    def happened(self, event: Row, request: "Request") -> None:
        """Follow a change that a request has made."""
        life, what = self.checker.lives[event["timer_id"]], event["what"]
        at = seconds(event["at"])
        request.check_version(life.version)
        life.version += 1
        request.events.append(event)
        if what == "cancelled":
            self.checker.cancelled(life.id)
        elif what == "replayed":
            self._replayed(life, at)
        elif request.moves:
            bound = None if life.key is None else self.bounds.get(life.key)
            due = request.due(at, bound)
            self.checker.moved(life.id, due, at)
        else:
            self.checker.changed(life.id, what)
        life.labels = request.labels(life.labels)

    def _replayed(self, life: Life, at: float) -> None:
        if life.key is not None:
            must(not self.holders(life.key), "two timers have one key")
            life.has_key = True
        self.checker.replayed(life.id, at)

    def seen(self, row: Row) -> None:
        """Check that a row is as all changes together have made it."""
        life = self.checker.lives[row["id"]]
        must(row["version"] == life.version, "a change left no event")
        must((row["labels"] or {}) == life.labels, "a change was lost")
        must(abs(seconds(row["due_at"]) - life.due) <= TICK, "due wrongly")

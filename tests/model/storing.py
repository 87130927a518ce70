"""What callers ask for to store timers that have names."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.timers import changes
from apps.timers.storage import by_key, naming
from apps.timers.storage.limiting import LimitReached, Refused
from apps.timers.storage.records import KeyTaken, NamedTimer, Repeated, Stored
from tests.model.keys import DAY
from tests.model.life import must
from tests.model.postgres import Row, maybe_seconds
from tests.model.requests import Request


@dataclass(eq=False, kw_only=True)
class Post(Request):
    """Store a timer, or a group of timers, that have names."""

    def run(self) -> Any:
        """Ask for it."""
        if len(self.items) > 1:
            return naming.create(self.items, limited=self.is_limited)
        try:
            return [changes.create_named(self.items[0])]
        except LimitReached as error:
            return [error.args[0]]
        except changes.KeyInUse as error:
            return [KeyTaken(error.args[0])]
        except changes.RequestKeyReused:
            return [None]

    def check(self, answer: Any) -> None:
        """Check that what is refused was not stored."""
        for item, each in zip(self.items, answer, strict=True):
            must(
                isinstance(each, Stored) == (item.timer.id in self.made),
                f"stored, and answered {each}",
            )
            if isinstance(each, KeyTaken):
                self._check_taken(item, each.timer_id)
            elif isinstance(each, Refused):
                self.check_refusal()
            elif not isinstance(each, Stored):
                self._check_repeated(item, each)

    def _check_taken(self, item: NamedTimer, holder: UUID) -> None:
        life = self.keys.checker.lives.get(holder)
        must(
            life is not None
            and life.key == item.key
            and self.may_have_key(holder),
            "refused, although the key is free",
        )

    def _check_repeated(self, item: NamedTimer, answer: Any) -> None:
        asked = item.request_key
        assert asked is not None
        first = self.keys.remembered.get(asked.key)
        must(first is not None, "the first of its kind is no repetition")
        assert first is not None
        must(self.at - first.at <= DAY, "remembered for too long")
        is_same = asked.fingerprint == first.fingerprint
        if isinstance(answer, Repeated):
            must(
                (answer.timer_id, answer.time_left)
                == (first.timer_id, first.time_left),
                "the answer is another one than the first",
            )
            must(answer.is_same == is_same, "taken for another request")
        else:
            must(not is_same, "taken for another request")


@dataclass(eq=False, kw_only=True)
class Put(Request):
    """Give a key its timer: one, or a group in turn."""

    if_exists: by_key.IfExists

    @property
    def moves(self) -> bool:  # type: ignore[override]
        """Whether it moves a timer that it finds."""
        return self.if_exists != "keep"

    def run(self) -> Any:
        """Ask for it."""
        puts = [by_key.Put(item, self.if_exists) for item in self.items]
        if len(puts) > 1:
            return by_key.put(puts, limited=self.is_limited)
        try:
            return [changes.put_timer(puts[0])]
        except LimitReached as error:
            return [error.args[0]]

    def could(self, event: Row) -> bool:
        """Tell whether an event may be this request's."""
        life = self.keys.checker.lives[event["timer_id"]]
        what = {"replace": "changed", "extend": "moved"}.get(self.if_exists)
        return (
            len(self.events) < len(self.items)
            and event["what"] == what
            and life.key == self.items[0].key
        )

    @property
    def _item(self) -> NamedTimer:
        """What the latest event is for: the first ones are done before."""
        return self.items[len(self.made) + len(self.events) - 1]

    def due(self, at: float, bound: float | None) -> float:
        """Return when it is due; a replaced timer's bound is replaced."""
        item = self._item
        due = at + item.timer.delay.total_seconds()
        if self.if_exists == "extend":
            return due if bound is None else min(due, bound)
        assert item.key is not None
        self.keys.bounds[item.key] = maybe_seconds(item.latest_at)
        return due

    def labels(self, old: dict[str, str]) -> dict[str, str]:
        """Return the labels that take the place of the old ones."""
        if self.if_exists == "extend":
            return old
        return dict(self._item.timer.definition.labels or {})

    def check(self, answer: Any) -> None:
        """Check that the key has a timer, and that it says which."""
        done = [each for each in answer if not isinstance(each, Refused)]
        must(
            len(self.made) + len(self.events)
            == (len(done) if self.moves else len(self.made)),
            "stored and changed more than was asked for",
        )
        changed = {event["timer_id"] for event in self.events}
        for item, each in zip(self.items, answer, strict=True):
            if isinstance(each, Refused):
                must(item.timer.id not in self.made, "stored after all")
                self.check_refusal()
                continue
            timer_id = each.timer.id
            must(
                each.is_new == (item.timer.id in self.made),
                "it says wrongly whether a timer is new",
            )
            must(
                timer_id == item.timer.id
                if each.is_new
                else timer_id in changed or not self.moves,
                "another timer was answered than was changed",
            )
            life = self.keys.checker.lives[timer_id]
            must(
                timer_id in self.made
                or (life.key == item.key and self.may_have_key(timer_id)),
                "a timer was changed that does not have the key",
            )
            must(
                life.open_at >= self.since or self.keys.checker.is_open(life),
                "a timer was kept that is being called",
            )

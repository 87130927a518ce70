"""What callers ask for, and what must be true of the answers.

Each is a request to the service's own function below the API. These change
timers; `storing` has those that store some.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import psycopg

from apps.accounts.authors import Author
from apps.core.reaching import PostgresAway
from apps.timers import changes, services
from apps.timers.storage.limiting import LimitReached
from apps.timers.storage.records import Definition, NamedTimer, StoredTimer
from tests.model.keys import Keys
from tests.model.life import must
from tests.model.postgres import Row
from tests.support.accounts import OWNER

#: Of one request, and of a group.
_UNAVAILABLE = PostgresAway, psycopg.OperationalError


Errors = tuple[type[Exception], ...]


@dataclass(eq=False, kw_only=True)
class Request:
    """A request, and what is known to have come of it."""

    keys: Keys
    #: The timers that it may store.
    items: Sequence[NamedTimer] = ()
    #: The timers that it may change; and the versions, if any were named.
    targets: Sequence[UUID] = ()
    versions: frozenset[int] | None = None
    #: Its time, and the number of the checker's look, when it began.
    at: float = 0.0
    since: int = 0
    #: The timers that did not have their keys any more when it began.
    without_key: set[UUID] = field(default_factory=set)
    made: set[UUID] = field(default_factory=set)
    events: list[Row] = field(default_factory=list)
    #: Whether its connection was lost: then any part of it may be done.
    cut_off: bool = False

    moves = False
    refusals: ClassVar[Errors] = ()

    def begin(self, now: float) -> None:
        """Note how things stand before."""
        checker = self.keys.checker
        self.at, self.since = now, checker.looks
        lives = checker.lives.values()
        self.without_key = {x.id for x in lives if not self.keys.has(x)}

    def run(self) -> Any:
        """Ask the service."""
        raise NotImplementedError

    def could(self, event: Row) -> bool:
        """Tell whether an event may be this request's."""
        is_open = len(self.events) < len(self.targets)
        return is_open and event["timer_id"] in self.targets

    def due(self, at: float, bound: float | None) -> float:
        """Return when a timer is due that it has moved at a time."""
        raise NotImplementedError

    def labels(self, old: dict[str, str]) -> dict[str, str]:
        """Return what it makes of a timer's labels."""
        return old

    def check_version(self, version: int) -> None:
        """Check that it changes a version that it was to change."""
        must(
            self.versions is None or version in self.versions,
            "another version was changed than the caller had read",
        )

    def may_have_key(self, timer_id: UUID) -> bool:
        """Tell whether a timer had its key, or got it back meanwhile."""
        return timer_id not in self.without_key or self._replayed(timer_id)

    def must_have_key(self, timer_id: UUID) -> bool:
        """Tell whether a timer that has its key now had it all the time."""
        return not (timer_id in self.without_key or self._replayed(timer_id))

    def _replayed(self, timer_id: UUID) -> bool:
        life = self.keys.checker.lives[timer_id]
        return life.replayed_at >= self.since

    def ended(self, answer: Any) -> None:
        """Check the answer."""
        if self.cut_off and isinstance(answer, _UNAVAILABLE):
            return
        must(
            not isinstance(answer, Exception)
            or isinstance(answer, self.refusals),
            f"a request broke off: {answer!r}",
        )
        self.check(answer)

    def check(self, answer: Any) -> None:
        """Check an answer that the service may give."""
        raise NotImplementedError

    @property
    def is_limited(self) -> bool:
        """Whether the account has a limit."""
        return self.keys.checker.limit is not None

    def check_refusal(self, wanted: int = 1) -> None:
        """Check that there was no room for so many timers."""
        checker = self.keys.checker
        must(checker.limit is not None, "refused without a limit")
        assert checker.limit is not None
        checker.limit.check_refusal(checker.lives, self.at, wanted)

    def check_excuse(self, timer_id: UUID) -> None:
        """Check that a timer could not be changed at some time."""
        checker = self.keys.checker
        life = checker.lives[timer_id]
        must(
            life.closed_at >= self.since or checker.is_closed(life),
            "neither changed, nor claimed, nor ended",
        )


@dataclass(eq=False, kw_only=True)
class Change(Request):
    """Move a timer, fire it now, or add a label."""

    what: str
    delay: float | None = None
    label: str | None = None
    refusals: ClassVar[Errors] = (
        changes.NotChangeable, services.WrongVersion,
    )

    @property
    def moves(self) -> bool:  # type: ignore[override]
        """Whether it changes the time."""
        return self.delay is not None

    def run(self) -> Any:
        """Ask for it."""
        merge: Callable[[Definition], Definition] | None = None
        if self.label is not None:
            def merge(old: Definition) -> Definition:
                return replace(old, labels=self.labels(dict(old.labels or {})))
        return changes.change_timer(
            OWNER,
            self.targets[0],
            self.what,
            delay=None if self.delay is None else timedelta(
                seconds=self.delay
            ),
            merge=merge,
            versions=self.versions,
        )

    def could(self, event: Row) -> bool:
        """Tell whether an event may be this request's."""
        return super().could(event) and event["what"] == self.what

    def due(self, at: float, bound: float | None) -> float:
        """Return when it is due."""
        assert self.delay is not None
        return at + self.delay

    def labels(self, old: dict[str, str]) -> dict[str, str]:
        """Return the labels with the new one."""
        return old if self.label is None else old | {self.label: "yes"}

    def check(self, answer: Any) -> None:
        """Check that a timer was changed once, or could not be."""
        is_done = isinstance(answer, StoredTimer)
        must(is_done == (len(self.events) == 1), "changed, or it was not")
        if isinstance(answer, changes.NotChangeable):
            self.check_excuse(self.targets[0])
        elif not is_done:
            self.check_outdated()

    def check_outdated(self) -> None:
        """Check that a timer has another version than was named."""
        life = self.keys.checker.lives[self.targets[0]]
        must(
            self.versions is not None and life.version not in self.versions,
            "refused for its version, which it has",
        )


@dataclass(eq=False, kw_only=True)
class Cancel(Change):
    """Cancel a timer: by its id, or by its key."""

    what: str = "cancelled"
    key: str | None = None
    refusals: ClassVar[Errors] = (
        services.AlreadyFired, services.WrongVersion,
    )

    def run(self) -> Any:
        """Ask for it."""
        if self.key is not None:
            found = changes.timer_with(OWNER, self.key)
            if found is None:
                return None
            must(self.may_have_key(found), "found one without its key")
            self.targets = [found]
        return services.cancel_timer(
            OWNER, self.targets[0], self.versions
        )

    def check(self, answer: Any) -> None:
        """Check that a timer was cancelled once, or could not be."""
        if answer is None:
            self._check_absent()
        elif answer is True:
            life = self.keys.checker.lives[self.targets[0]]
            must(life.cancelled, "it is not cancelled")
        else:
            must(not self.events, "cancelled after all")
            if isinstance(answer, services.AlreadyFired):
                self.check_excuse(self.targets[0])
            else:
                self.check_outdated()

    def _check_absent(self) -> None:
        assert self.key is not None
        there = [x.id for x in self.keys.holders(self.key)]
        must(
            not any(map(self.must_have_key, there)),
            "a timer was not found by its key",
        )


@dataclass(eq=False, kw_only=True)
class Replay(Request):
    """Replay timers that gave up: one, or many."""

    refusals: ClassVar[Errors] = (
        services.NotGivenUp, services.TriedTooOften, LimitReached,
    )

    def run(self) -> Any:
        """Ask for it."""
        if len(self.targets) > 1:
            return services.replay_timers(Author(OWNER), self.targets, "id")
        return services.replay_timer(OWNER, self.targets[0])

    def could(self, event: Row) -> bool:
        """Tell whether an event may be this request's."""
        return super().could(event) and event["what"] == "replayed"

    def check(self, answer: Any) -> None:
        """Check that it says which were replayed."""
        replayed = {event["timer_id"] for event in self.events}
        if isinstance(answer, list):
            must(
                set(answer) == set(self.targets) - replayed,
                "it says wrongly which were replayed",
            )
        elif isinstance(answer, LimitReached):
            must(not replayed, "replayed after all")
            self.check_refusal(len(self.targets))
        else:
            is_done = isinstance(answer, StoredTimer)
            must(is_done == bool(replayed), "replayed, or it was not")
            if isinstance(answer, services.NotGivenUp):
                self._check_refusal(self.targets[0])

    def _check_refusal(self, timer_id: UUID) -> None:
        """Check that it had not given up, or another one had its key."""
        checker = self.keys.checker
        key = checker.lives[timer_id].key
        must(
            any(
                life.not_given_up_at >= self.since
                or not checker.gave_up(life.id)
                for life in checker.lives.values()
                if life.id == timer_id or (key and life.key == key)
            ),
            "not replayed, though it gave up and its key is free",
        )

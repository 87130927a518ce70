"""The moves of callers: they set timers, change them, and ask again."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from apps.timers import services
from apps.timers.storage.by_key import IfExists
from apps.timers.storage.records import Definition, NamedTimer, RequestKey
from apps.webhooks.retry import RetryPolicy
from tests.model.keys import DAY
from tests.model.life import TICK
from tests.model.postgres import moment
from tests.model.requests import Cancel, Change, Replay, Request
from tests.model.storing import Post, Put
from tests.model.world import World

#: Callers' keys, and requests' keys.
_KEY, _REQUEST = "order", "request"
_NAMES: list[tuple[str | None, str | None]] = [
    (_KEY, None), (None, _REQUEST), (_KEY, _REQUEST),
]
_IF_EXISTS: list[IfExists] = ["replace", "keep", "extend"]
_RETRY = RetryPolicy(3, 1, 60, False)
#: In seconds from now; a timer with the last may be extended so far.
_DELAYS = [0.0, 9.0, 90.0]
#: How far a timer is moved from now.
_MOVES = [0.0, 0.0, 0.31, 9.0, 31.0, 90.0]
_BOUND = 31.0
_MOST_OPEN = 4


def pick(choices: list[Any], number: int) -> Any:
    """Return the one of the choices that a number stands for."""
    return choices[number % len(choices)]


class Asking:
    """One method for each move; `which` of 3 and more: step by step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._count = 0

    def _open(self) -> list[UUID]:
        """Return the timers without an outcome, else all."""
        return self._unended() or self._world.timers

    def _unended(self) -> list[UUID]:
        ended = self._world.checker.has_ended
        return [t for t in self._world.timers if not ended(t)]

    def _ask(self, request: Request, which: int) -> None:
        """Begin a request, and finish it unless it goes step by step."""
        web = self._world.web
        if not web.idle():
            self.go_on(which, 0)
            return
        caller = web.idle()[0]
        # No caller is as fast as a call on a clock that stands still.
        self._world.advance(TICK)
        web.begin(caller, request)
        while which < 3 and caller.asked is request and not caller.is_blocked:
            web.go_on(caller)

    def post(self, which: int, how: int) -> None:
        """Store a timer under a key, or once a request; or twice at once."""
        if len(self._unended()) < _MOST_OPEN:
            key, request_key = pick(_NAMES, which)
            delay = pick(_DELAYS, how)
            asked = request_key and RequestKey(
                request_key, bytes([which % 3, how % 3]), self._count
            )
            items = [
                NamedTimer(self._timer(delay), key, asked or None)
                for _ in range(1 + how // 3)
            ]
            self._ask(Post(keys=self._world.web.keys, items=items), which)

    def put(self, which: int, how: int) -> None:
        """Give a key its timer; or twice at once."""
        if len(self._unended()) < _MOST_OPEN:
            bound = moment(self._world.now + _BOUND) if how == 2 else None
            items = [
                NamedTimer(
                    self._timer(pick(_DELAYS, how)), _KEY,
                    takes_key=True, latest_at=bound,
                )
                for _ in range(1 + how // 5)
            ]
            put = partial(Put, keys=self._world.web.keys, items=items)
            self._ask(put(if_exists=pick(_IF_EXISTS, which)), which)

    def _timer(self, delay: float) -> Any:
        self._count += 1
        definition = Definition(
            "http://127.0.0.1:9/", at_least_once=True, retry=_RETRY,
            labels={"of": str(self._count)},
        )
        return services.new_timer(definition, timedelta(seconds=delay))

    def _versions(
        self, timer_id: UUID, is_named: bool
    ) -> frozenset[int] | None:
        if not is_named:
            return None
        return frozenset({self._world.checker.lives[timer_id].version})

    def _change(
        self, what: str, which: int, *, is_named: bool, **change: Any
    ) -> None:
        timer_id = pick(self._open(), which)
        request = Change(
            keys=self._world.web.keys,
            what=what,
            targets=[timer_id],
            versions=self._versions(timer_id, is_named),
            **change,
        )
        self._ask(request, which)

    def move(self, which: int, how: int) -> None:
        """Move a timer; the last is of the version that is there now."""
        self._change("moved", which, is_named=how == 5, delay=_MOVES[how])

    def fire_now(self, which: int, how: int) -> None:
        """Fire a timer now."""
        self._change("fired", which, is_named=how > 3, delay=0.0)

    def patch(self, which: int, how: int) -> None:
        """Add a label to a timer's."""
        self._count += 1
        label = f"label{self._count}"
        self._change("changed", which, is_named=how > 3, label=label)

    def cancel(self, which: int, how: int) -> None:
        """Cancel a timer, or the one that has the key."""
        timer_id = pick(self._open(), which)
        request = Cancel(
            keys=self._world.web.keys,
            targets=[timer_id],
            key=_KEY if how == 5 else None,
            versions=self._versions(timer_id, how == 4),
        )
        self._ask(request, which)

    def replay(self, which: int, how: int) -> None:
        """Replay a timer, or all, that gave up."""
        timers = list(filter(self._world.checker.gave_up, self._world.timers))
        if not timers:
            return
        if how < 3:
            timers = [pick(timers, which)]
        request = Replay(keys=self._world.web.keys, targets=timers)
        self._ask(request, which)

    def go_on(self, which: int, how: int) -> None:
        """Let a request do some statements, or lose its connection."""
        web = self._world.web
        if not web.busy():
            return
        caller = pick(web.busy(), which)
        self._world.advance(TICK)
        if how == 4:
            web.lose(caller)
        elif how == 5:
            web.go_on(caller, is_well=False)
        else:
            asked = caller.asked
            for _ in range(how + 1):
                if caller.asked is asked:
                    web.go_on(caller)

    def pass_day(self, which: int, how: int) -> None:
        """Let more than a day pass."""
        self._world.advance(DAY + 1 + which)

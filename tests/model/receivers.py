"""Receivers, and all that is between them and a worker."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from apps.timers.firing.call import TooLate
from apps.timers.firing.claims import LeaseTooShort
from apps.webhooks.destination import Deferral
from apps.webhooks.results import FailureKind, Result
from tests.model.life import Grant, Life, must

if TYPE_CHECKING:
    from tests.model.world import World

#: What a destination may say instead of taking a call.
DEFERRALS = [
    Deferral(3.0, False, "busy: as many calls as one may have"),
    Deferral(9.0, True, "hanging: no answer for a while"),
]


def _answer(code: int, retry_after: str | None = None) -> Result:
    return Result(code, None, "", True, b"", 0, retry_after=retry_after)


def _failure(kind: FailureKind, *, hung: bool = False) -> Result:
    return Result(None, kind, "", not kind.unsent, b"", 0, hung)


GOOD_ANSWER = _answer(200)
_TIMEOUT = _failure(FailureKind.timeout, hung=True)
#: What becomes of a request that left and is not answered with 200.
BAD_ANSWERS = [
    _TIMEOUT,
    _answer(500),
    _answer(503, "30"),
    _answer(410),
    _answer(500),
    _TIMEOUT,
]


class Receivers:
    """Stands in for WebhookClient and Destinations; see their contracts."""

    def __init__(self, world: "World") -> None:
        self._world = world
        #: What the next call is answered instead of being made.
        self.deferral: Deferral | None = None

    def _caller(self) -> tuple[Life, Grant]:
        worker = self._world.running
        assert worker.timer is not None
        assert worker.token is not None
        life = self._world.checker.lives[worker.timer]
        return life, life.grants[worker.token]

    def enter(self, origin: object, *, returning: bool) -> Deferral | None:
        """Let a worker call, or not."""
        _, grant = self._caller()
        must(not grant.late, "about to call, although it is known too late")
        deferral, self.deferral = self.deferral, None
        grant.deferral = deferral
        self._world.running.calling = deferral is None
        return deferral

    def leave(self, origin: object, *, hung: bool | None) -> None:
        """Take note of the call's end."""
        _, grant = self._caller()
        must(self._world.running.calling, "a slot was given back twice")
        self._world.running.calling = False
        result, news = grant.result, None
        if result is not None and result.failure is not FailureKind.aborted:
            news = result.hung
        must(hung == news, "wrong news of a receiver that hangs")

    def call(
        self,
        target: object,
        *,
        headers: dict[str, str],
        deadline: float,
        before_send: Callable[[], None],
        on_sent: Callable[[], None],
        **_: object,
    ) -> Result:
        """Make a call, and keep for the checker what came of it."""
        life, grant = self._caller()
        must(
            UUID(headers["webhook-id"]) == self._world.running.timer
            and headers["timer-attempt"] == str(grant.terms.number),
            "a request says something else of itself",
        )
        grant.result = self._call(life, grant, deadline, before_send, on_sent)
        return grant.result

    def _call(
        self,
        life: Life,
        grant: Grant,
        deadline: float,
        before_send: Callable[[], None],
        on_sent: Callable[[], None],
    ) -> Result:
        world = self._world
        worker = world.running
        if not world.ask(("connect",)):
            return _failure(FailureKind.refused)
        try:
            before_send()
        except LeaseTooShort:
            return _failure(FailureKind.aborted)
        except TooLate:
            grant.late = True
            return _failure(FailureKind.aborted)
        world.checker.begun(grant, world.known())
        world.ask(("send",))
        if world.monotonic() >= deadline:
            return _failure(FailureKind.aborted)
        world.checker.sending(life, grant, world.now, world.known())
        world.ask(("sent",))
        on_sent()
        grant.noted_at = world.known()
        must(worker.token in worker.marks, "no mark was made")
        answer: Result = world.ask(("answer",))
        return answer

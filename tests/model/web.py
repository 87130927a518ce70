"""Web processes: callers' requests, of which two may be under way.

Each runs the service's code on a thread and a connection of its own, and
stops before each statement, and before it commits. So another one's
statements come in between, wait for its locks, or are waited for.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

import psycopg

from apps.core.database import Connection
from tests.model.keys import Keys
from tests.model.life import must
from tests.model.postgres import Cursor, Postgres, Row
from tests.model.requests import Request
from tests.model.task import BLOCKED, Task
from tests.model.worker import Worker

if TYPE_CHECKING:
    from tests.model.world import World

_here = threading.local()


def pool_here(postgres: Postgres) -> Any:
    """Return the pool of the caller that runs on this thread, if one does."""
    return getattr(_here, "caller", postgres)


class Caller:
    """One who asks, and the connection that answers; it is its own pool."""

    def __init__(self, postgres: Postgres, connection: Connection) -> None:
        #: The clock of its machine is right.
        self.process = Worker(skew=0.0)
        self._postgres = postgres
        self._connection = connection
        self.task: Task | None = None
        self.asked: Request | None = None
        #: Whether it may hold locks, and may have committed something.
        self.has_locks = self.has_news = False
        #: Whether each statement is a transaction.
        self._is_single = True
        self._answer: Any = None

    def begin(self, request: Request) -> Callable[[], None]:
        """Return what lets a request run until its first statement."""
        self.asked = request
        self.task = Task(
            self._run, lambda: self._postgres.is_blocked(self._connection)
        )
        return self.task.start

    def _run(self) -> None:
        _here.caller = self
        assert self.asked is not None
        try:
            self._answer = self.asked.run()
        except Exception as error:
            self._answer = error

    @property
    def is_blocked(self) -> bool:
        """Whether its statement waits for another one's lock."""
        return self.task is not None and self.task.request is BLOCKED

    def take_answer(self) -> None:
        """Check the answer, if the request has ended."""
        if self.task is not None and self.task.request is None:
            assert self.asked is not None
            self.asked.ended(self._answer)
            self.task = self.asked = None

    def kill(self) -> None:
        """End the thread; nobody may hold a lock that it waits for."""
        while self.task is not None and self.task.request is not None:
            if self.is_blocked:
                self.task.settle()
            else:
                self.task.kill()

    # What the code under test sees.

    @contextmanager
    def connection(self) -> Iterator["Caller"]:
        """Lend the connection, as psycopg's pool does."""
        yield self

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is done within; or what is around it does."""
        was_single, self._is_single = self._is_single, False
        is_done = is_well = False
        try:
            with self._connection.transaction():
                yield
                is_well = self._stop("commit")
                is_done = True
        finally:
            if not is_done:
                self._postgres.forget_time(self._connection)
            self._is_single = was_single
            if was_single:
                self.has_news, self.has_locks = True, False
        if is_done:  # else psycopg.Rollback was raised
            self._answered(is_well)

    def execute(
        self, query: LiteralString, values: Mapping[str, Any]
    ) -> Cursor:
        """Run a statement when it is time."""
        is_well = self._stop("statement")
        self._postgres.tell_time(self._connection)
        self.has_locks = not self._is_single
        cursor = self._connection.execute(query, values)
        self.has_news |= self._is_single
        if self.is_blocked:
            self._stop("unblocked")
        self._answered(is_well)
        return cursor

    def _stop(self, what: str) -> bool:
        assert self.task is not None
        return bool(self.task.ask((what,)))

    def _answered(self, is_well: bool) -> None:
        if not is_well:
            raise psycopg.OperationalError("the connection is lost")


class Web:
    """All callers, and what is learned from what they do."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._postgres = world.postgres
        self.keys = Keys(world.checker)
        self.callers = [
            Caller(self._postgres, each) for each in self._postgres.callers
        ]
        #: The events that are known, by their ids.
        self._known: set[int] = set()

    def close(self) -> None:
        """End all threads; first those that hold locks."""
        self._postgres.let_go_on = None
        for caller in sorted(self.callers, key=lambda x: x.is_blocked):
            caller.kill()

    def idle(self) -> list[Caller]:
        """Return the callers that have not asked for anything."""
        return [each for each in self.callers if each.task is None]

    def busy(self) -> list[Caller]:
        """Return the others."""
        return [each for each in self.callers if each.task is not None]

    def begin(self, caller: Caller, request: Request) -> None:
        """Have a caller ask for something; run to its first statement."""
        request.begin(self._world.now)
        self._run(caller, caller.begin(request))

    def go_on(self, caller: Caller, *, is_well: bool = True) -> None:
        """Let a request do its next statement; its answer may be lost."""
        task = caller.task
        assert task is not None
        if caller.is_blocked:
            self._run(caller, task.settle)
        else:
            self._cut_off(caller, not is_well)
            self._run(caller, lambda: task.resume(is_well))

    def lose(self, caller: Caller) -> None:
        """Lose a request's connection before its next statement."""
        task = caller.task
        assert task is not None
        if not caller.is_blocked:
            self._cut_off(caller, True)
            error = psycopg.OperationalError("the connection is lost")
            self._run(caller, lambda: task.resume(error))

    def finish(self) -> None:
        """Let all requests run to their ends."""
        while self.busy():
            self.let_go_on()

    def let_go_on(self) -> None:
        """Let a request do a statement that waits for nobody."""
        busy = self.busy()
        free = [each for each in busy if not each.is_blocked]
        self.go_on((free or busy)[0])

    def _cut_off(self, caller: Caller, is_lost: bool) -> None:
        assert caller.asked is not None
        caller.asked.cut_off |= is_lost

    def _run(self, caller: Caller, run: Callable[[], None]) -> None:
        """Run one step; whoever waited for it goes on to the next stop."""
        before, self._world.running = self._world.running, caller.process
        waiting = [x for x in self.callers if x.is_blocked and x != caller]
        run()
        for other in waiting:
            assert other.task is not None
            other.task.settle()
        self._world.running = before
        self._learn([x for x in (caller, *waiting) if x.has_news])
        for each in self.callers:
            each.take_answer()
        has_locks = any(each.has_locks for each in self.callers)
        self._postgres.let_go_on = self.let_go_on if has_locks else None

    def _learn(self, callers: list[Caller]) -> None:
        """Look at what has been written, and whose that is."""
        if not callers:
            return
        self._postgres.written()
        for caller in callers:
            caller.has_news = False
        requests = [x.asked for x in callers if x.asked is not None]
        rows = self._postgres.rows()
        touched = self._learn_timers(requests, rows)
        touched += self._learn_events(requests)
        for timer_id in touched:
            self.keys.seen(rows[timer_id])

    def _learn_timers(
        self, requests: list[Request], rows: dict[UUID, Row]
    ) -> list[UUID]:
        """Follow the timers that are new, and return them."""
        asked = {
            item.timer.id: (item, request)
            for request in requests
            for item in request.items
        }
        new = sorted(rows.keys() - self._world.checker.lives.keys())
        for timer_id in new:
            must(timer_id in asked, "a timer that nobody asked for")
            item, request = asked[timer_id]
            self.keys.stored(item, rows[timer_id], request)
        self._world.timers += new
        return new

    def _learn_events(self, requests: list[Request]) -> list[UUID]:
        """Follow the changes that are new, and return their timers."""
        changed = []
        for event in self._postgres.events():
            if event["id"] in self._known:
                continue
            self._known.add(event["id"])
            could = [x for x in requests if x.could(event)]
            must(could, f"nobody asked for this: {event}")
            self.keys.happened(event, could[0])
            if event["what"] == "replayed":
                self._forget_late(event["timer_id"])
            changed.append(event["timer_id"])
        return changed

    def _forget_late(self, timer_id: UUID) -> None:
        """Let no write arrive that is older than a replay."""
        late = self._world.late
        late[:] = [write for write in late if write.item.id != timer_id]

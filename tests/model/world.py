"""The service in small: real code, and everything around it simulated.

Workers run `fire.fire`, dispatchers `dispatcher.run_once`, both against
the real store on real Postgres. What is between them (network, RabbitMQ,
receivers, clocks, threads) does what the scheduler says.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock
from uuid import UUID

import psycopg

from apps.accounts import limits
from apps.broker.middleware import LeaveUnacknowledged
from apps.timers.firing import fire
from apps.timers.models import Outcome
from apps.timers.scheduling import dispatcher
from apps.timers.storage import claiming, creating, holding, recording
from apps.timers.storage.claim_records import Claim, Held
from apps.timers.storage.records import ClockReading, NewTimer
from tests.model.checker import Checker
from tests.model.life import must
from tests.model.limits import Limit
from tests.model.postgres import Postgres, moment, seconds
from tests.model.rabbitmq import RabbitMQ
from tests.model.receivers import BAD_ANSWERS, GOOD_ANSWER, Receivers
from tests.model.stand_ins import stand_ins
from tests.model.task import Killed, Task
from tests.model.web import Web
from tests.model.worker import Worker, Write
from tests.support.accounts import OWNER

#: What `claims` writes, and what with.
_WRITES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "_claims": claiming.claim,
    "_renewals": claiming.renew,
    "_records": recording.record,
    "_postponements": recording.postpone,
}


class World:
    """All processes, and the time."""

    def __init__(self, postgres: Postgres, most_reopenings: int) -> None:
        self.postgres = postgres
        self.checker = Checker()
        self.now = 0.0
        self.workers = [Worker(skew) for skew in (5.0, 5.0, -5.0)]
        self.timers: list[UUID] = []
        self.rabbitmq = RabbitMQ(lambda: self.now)
        self.receivers = Receivers(self)
        #: Writes whose clients have given up, but which may yet arrive.
        self.late: list[Write] = []
        self._tries_ended = False
        self._suspended = 0.0
        self._cut_off_until = -1e9
        self._hold_up = 0.0
        #: The process that runs.
        self.running = self.workers[0]
        postgres.begin()
        self.web = Web(self)
        self._stack = ExitStack()
        for module, name, value in stand_ins(self, most_reopenings):
            self._stack.enter_context(mock.patch.object(module, name, value))

    def close(self) -> None:
        """End all threads and forget the tables."""
        self.web.close()
        for worker in self.workers:
            self._kill(worker)
        self._stack.close()
        self.postgres.end()

    # What the code under test sees.

    def monotonic(self) -> float:
        """Return the time of the machine whose process runs."""
        return self.lease_clock() - self._suspended

    def lease_clock(self) -> float:
        """Return its time on the clock that a suspension does not stop."""
        return self.now + self.running.skew

    def ask(self, request: object) -> Any:
        """Stop the worker that runs."""
        assert self.running.task is not None
        return self.running.task.ask(request)

    def read_clock(self, connection: object) -> ClockReading:
        """Read Postgres's clock; a stalled Postgres goes on by now."""
        reading = ClockReading(moment(self.now), self.monotonic())
        duration, self._hold_up = self._hold_up, 0.0
        if duration:
            self.cut_off(duration)
        return reading

    def known(self) -> float:
        """Return the time, as the worker that runs knows it."""
        assert self.running.clock is not None
        return seconds(self.running.clock.to_database(self.monotonic()))

    def is_limited(self, account: int) -> bool:
        """Stand in for what a process remembers of accounts."""
        return self.checker.limit is not None

    def ended_within(self, duration: float) -> bool:
        """Stand in for the dispatcher's outages."""
        return round(self.now - self._cut_off_until, 6) <= duration

    # What the scheduler does.

    def can_suspend(self) -> bool:
        """Tell whether no worker is between its last look and the send.

        Against a machine that is suspended within that microsecond there
        is no help.
        """
        return all(w.request != ("send",) for w in self.workers)

    def groups(self) -> list[list[Write]]:
        """Return the writes that could go together now."""
        waiting: dict[tuple[str, float], list[Write]] = {}
        for worker in self.workers:
            request = worker.request
            if isinstance(request, Write) and not request.done:
                key = request.kind, worker.skew
                waiting.setdefault(key, []).append(request)
        return [group for group in waiting.values() if len(group) > 1]

    def observe(self) -> None:
        """Have the checker look at all rows."""
        if self.postgres.touched:
            self.postgres.touched = False
            rows = self.postgres.rows()
            self.checker.observed(rows)
            if self.checker.limit is not None:
                limit = self.postgres.limit()
                self.checker.limit.observed(rows, limit, self.now)
        if self._tries_ended:
            self._tries_ended = False
            self.checker.kept(self.postgres.attempts())

    def advance(self, duration: float) -> None:
        """Let time pass."""
        self.now = round(self.now + duration, 6)
        self.postgres.set_clock("now", self.now)

    def suspend(self, duration: float) -> None:
        """Suspend the machines; their monotonic clocks stand still."""
        self._suspended += duration
        self.advance(duration)

    def create(self, timer: NewTimer) -> None:
        """Store a timer; a `queued` one loses its first message."""
        creating.create([timer])
        self.checker.created(timer, self.now)
        self.timers.append(timer.id)

    def limit(self, most: int) -> None:
        """Have the operator limit how many timers have not ended."""
        self.postgres.execute(limits.SET, {
            "account": OWNER, "outstanding": most, "creates_per_second": None,
            "burst": None, "body_bytes": None,
        })
        self.checker.limit = Limit(most)

    def deliver(self, worker: Worker, timer_id: UUID, held: bool) -> None:
        """Hand a message to an idle worker."""

        def run() -> None:
            try:
                fire.fire(timer_id)
            except LeaveUnacknowledged:
                self._give_back(worker)

        worker.timer, worker.holds_message = timer_id, held
        worker.task = Task(run)
        self._run(worker, worker.task.start)

    def step(self, worker: Worker, fault: int | None = None) -> None:
        """Let a worker do its next step, well or with a fault."""
        request = worker.request
        if isinstance(request, Write):
            self._step_write(worker, request, fault is None)
        elif request[0] == "sleep":
            self.advance(max(0.0, request[1] - self.now))
            self._resume(worker, None)
        elif request[0] == "pause":
            self._resume(worker, fault is not None)  # it is to stop
        elif request[0] == "answer":
            answer = GOOD_ANSWER if fault is None else BAD_ANSWERS[fault]
            self._resume(worker, answer)
        else:
            self._resume(worker, fault is None)

    def _step_write(self, worker: Worker, write: Write, well: bool) -> None:
        if not well:
            if not write.done:
                self.late.append(write)
            self._resume(worker, psycopg.OperationalError("no answer"))
        elif not write.done:
            self.execute([write])
        else:
            answer = write.answer
            if isinstance(answer, Claim):
                worker.clock = answer.clock
            if isinstance(answer, Claim) or (
                write.kind == "_renewals" and answer
            ):
                self.checker.answered(write.item, answer, write.asked_at)
            self._resume(worker, answer)

    def execute(self, writes: list[Write]) -> None:
        """Write a group: of one kind, and from one machine."""
        self.running = writes[0].worker
        answers = _WRITES[writes[0].kind]([write.item for write in writes])
        for write, answer in zip(writes, answers, strict=True):
            write.done, write.answer = True, answer
            self.tell(write.kind, write.item, answer)

    def tell(self, kind: str, item: Any, answer: Any) -> None:
        """Have the checker hear of a write and its answer."""
        if kind == "_claims":
            if isinstance(answer, Claim):
                self.checker.granted(answer, self.now)
            elif answer is None or isinstance(answer, Held):
                self.checker.refused(item)
        elif kind == "_renewals":
            self.checker.renewed(item, answer, self.now)
        elif kind == "_records":
            self._tries_ended = True
            self.checker.recorded(item, answer, self.now)
        else:
            self._tries_ended = True
            self.checker.postponed(item, answer, self.now)

    def write_marks(self, worker: Worker, *, well: bool) -> None:
        """Write what is in flight, or fail to; see `claims.mark_writer`."""
        marks, worker.flying = worker.flying, []
        if well:
            claiming.mark_sent(marks)
            for mark in marks:
                self.checker.marked(mark, self.now)
        else:
            worker.marks = {m.token: m for m in marks} | worker.marks

    def crash(self, worker: Worker) -> None:
        """Kill a worker's process where it stands."""
        request = worker.request
        if isinstance(request, Write) and not request.done:
            self.late.append(request)
        self._kill(worker)
        self._give_back(worker)
        worker.task = None
        worker.marks.clear()
        worker.flying.clear()

    def _kill(self, worker: Worker) -> None:
        self.running = worker
        if worker.task:
            worker.task.kill()

    def dispatch(self, trouble: str = "") -> None:
        """Run one pass of a dispatcher, with trouble publishing."""

        def die() -> None:
            raise Killed

        #: The process that runs.
        self.running = self.workers[0]
        self.rabbitmq.refusing = {
            "": None, "refused": lambda: None, "dies": die,
        }[trouble]
        try:
            done = dispatcher.run_once()
            must(not done.failed, f"steps failed: {done.failed}")
        except Killed:
            pass
        finally:
            self.rabbitmq.refusing = None

    def hold(self, *, lasts: bool) -> None:
        """Hold all calls, or let them go on."""
        with self.postgres.connection() as connection:
            if lasts:
                connection.execute(holding.HOLD, {"reason": None})
            else:
                connection.execute(holding.RELEASE)
        self.checker.held = lasts

    def restart_postgres(self, duration: float) -> None:
        """Have Postgres away for a while, and started anew."""
        away_since = self.now
        self.advance(duration)
        self.postgres.set_clock("started", self.now)
        self.checker.returned(away_since, self.now)

    def cut_off(self, duration: float) -> None:
        """Have nobody reach Postgres for a while."""
        away_since = self.now
        self.advance(duration)
        self._cut_off_until = self.now
        self.checker.returned(away_since, self.now)

    def stall(self, duration: float) -> None:
        """Hold up everything that is on its way to Postgres.

        A dispatcher is just taking over.
        """
        self._hold_up = duration
        dispatcher.take_over()
        self._hold_up = 0.0

    def _give_back(self, worker: Worker) -> None:
        if worker.holds_message and worker.timer is not None:
            self.rabbitmq.messages.append((worker.timer, self.now))
        worker.holds_message = False

    def _resume(self, worker: Worker, answer: object) -> None:
        task = worker.task
        assert task is not None
        self._run(worker, lambda: task.resume(answer))

    def _run(self, worker: Worker, run: Callable[[], None]) -> None:
        self.running = worker
        run()
        if worker.request is None:
            worker.task, worker.holds_message = None, False
            must(not worker.calling, "a slot was not given back")
            self._ended(worker)

    def _ended(self, worker: Worker) -> None:
        assert worker.timer is not None
        assert worker.token is not None
        life = self.checker.lives[worker.timer]
        grant = life.grants.get(worker.token)
        must(
            grant is None or not grant.late or grant.judged or grant.over,
            "too late, and it was not said so",
        )

    def take_over(
        self, take_over: Callable[..., Any], **options: Any
    ) -> list[tuple[UUID, Outcome | None]]:
        """Take over, as a dispatcher does, and have that checked."""
        ended: list[tuple[UUID, Outcome | None]] = take_over(**options)
        self._tries_ended |= bool(ended)
        for timer_id, outcome in ended:
            self.checker.taken_over(timer_id, outcome, self.now)
        return ended

"""The service in small: real code, and everything around it simulated.

Workers run `fire.fire`, dispatchers `dispatcher.run_once`, both against
the real store on real Postgres. What is between them (network, RabbitMQ,
receivers, clocks, threads) does what the scheduler says.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

import psycopg
from django.conf import settings

from apps.broker.middleware import LeaveUnacknowledged
from apps.core.database import Connection
from apps.timers import decisions
from apps.timers.firing import call, claims, fire
from apps.timers.models import Outcome
from apps.timers.scheduling import dispatcher, publishing
from apps.timers.storage import (
    aside,
    changing,
    claiming,
    creating,
    holding,
    looking,
    queueing,
    recording,
    records,
    rows,
    taking_over,
)
from apps.timers.storage.records import (
    Change,
    Claim,
    ClockReading,
    DueMessage,
    Held,
    NewTimer,
    Postponement,
    Report,
)
from apps.webhooks import retry
from tests.model.checker import Checker
from tests.model.judging import (
    PATIENCE,
    check_postponement,
    check_report,
)
from tests.model.life import Grant, doubled, must
from tests.model.postgres import Postgres, seconds
from tests.model.rabbitmq import RabbitMQ
from tests.model.receivers import BAD_ANSWERS, GOOD_ANSWER, Receivers
from tests.model.task import Killed, Task
from tests.model.worker import Worker, Write

#: What `claims` writes, and what with.
_WRITES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "_claims": claiming.claim,
    "_renewals": claiming.renew,
    "_records": recording.record,
    "_postponements": recording.postpone,
}


class _Each:
    """Stands in for WriteBehind."""

    def __init__(self, flush: Callable[[Sequence[Any]], None]) -> None:
        self._flush = flush

    def add(self, item: Any) -> None:
        self._flush([item])


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
        self.running = self.workers[0]
        self._stack = ExitStack()
        self._patch(most_reopenings)
        postgres.begin()

    def close(self) -> None:
        """End all threads and forget the table."""
        for worker in self.workers:
            self._kill(worker)
        self._stack.close()
        self.postgres.end()

    def _patch(self, most_reopenings: int) -> None:
        clock = SimpleNamespace(monotonic=self.monotonic, sleep=self._sleep)
        take_over = taking_over.take_over
        replacements: list[tuple[Any, str, Any]] = [
            *((module, "pool", lambda: self.postgres) for module in (
                aside, changing, claiming, creating, holding, looking,
                queueing, taking_over,
            )),
            *((module, "time", clock) for module in (
                fire, call, claims, records, publishing, creating, rows,
                taking_over,
            )),
            *((module, "read_clock", self._read_clock) for module in (
                claiming, creating, queueing, taking_over
            )),
            (taking_over, "MOST_REOPENINGS", most_reopenings),
            (taking_over, "take_over", partial(self._take_over, take_over)),
            (claims, "lease_clock", self._lease_clock),
            (claims, "mark_writer", lambda: self.running),
            (claims, "stopping", SimpleNamespace(wait=self._pause)),
            (decisions, "backoff", partial(doubled, 1.0)),
            (retry, "backoff", lambda n, *of: doubled(of[0], n, of[1])),
            (call, "client", lambda: self.receivers),
            (call, "destinations", lambda: self.receivers),
            (publishing, "get_broker", lambda: self.rabbitmq),
            (dispatcher, "get_broker", lambda: self.rabbitmq),
            (dispatcher, "POSTGRES", self),
            (settings, "WEBHOOK_CONNECT_RETRY_SECONDS", PATIENCE),
            (settings, "RABBITMQ_URL", "amqp://127.0.0.1/"),
        ]
        replacements += [
            (claims, name, SimpleNamespace(submit=self._submitter(name)))
            for name in ("_claims", "_renewals")
        ]
        # Whoever adds something writes it, if nobody else does.
        replacements += [
            (claims, "_records", _Each(claims._record)),
            (claims, "_postponements", _Each(claims._postpone)),
            (claims, "recording", SimpleNamespace(
                record=self._writer("_records"),
                postpone=self._writer("_postponements"),
            )),
            (dispatcher, "recording", SimpleNamespace(
                record_for_the_dead=self._for_the_dead(
                    "_records", recording.record_for_the_dead
                ),
                postpone=self._for_the_dead(
                    "_postponements", recording.postpone
                ),
            )),
        ]
        for module, name, value in replacements:
            self._stack.enter_context(mock.patch.object(module, name, value))

    # What the code under test sees.

    def _lease_clock(self) -> float:
        return self.now + self.running.skew

    def monotonic(self) -> float:
        return self.now + self.running.skew - self._suspended

    def ask(self, request: object) -> Any:
        assert self.running.task is not None
        return self.running.task.ask(request)

    def _sleep(self, duration: float) -> None:
        if duration > 0:
            self.ask(("sleep", self.now + duration))

    def _pause(self, _: float) -> bool:
        return bool(self.ask(("pause",)))

    def _submitter(self, kind: str) -> Callable[..., Any]:
        def submit(item: Any, *, timeout: float) -> Any:
            if kind == "_claims":
                self.running.token = item.token
            return self.ask(Write(kind, item, self.running, self.now))

        return submit

    def _writer(self, kind: str) -> Callable[[Sequence[Any]], list[Any]]:
        def write(items: Sequence[Any]) -> list[Any]:
            (item,) = items
            self._judged(item)
            return [self.ask(Write(kind, item, self.running, self.now))]

        return write

    def _for_the_dead(
        self, kind: str, run: Callable[[Sequence[Any]], list[bool]]
    ) -> Callable[[Sequence[Any]], list[bool]]:
        def write(items: Sequence[Any]) -> list[bool]:
            answers = run(items)
            for item, answer in zip(items, answers, strict=True):
                grant = self.checker.answered_for(item, self.now)
                self._check(item, grant, self.now)
                self._tell(kind, item, answer)
            return answers

        return write

    def _judged(self, decision: Report | Postponement) -> None:
        grant = self.checker.lives[decision.id].grants[decision.token]
        if grant.judged:
            return  # the write is repeated
        grant.judged = True
        self._check(decision, grant, self.known())

    def _check(
        self, decision: Report | Postponement, grant: Grant, now: float
    ) -> None:
        life = self.checker.lives[decision.id]
        if isinstance(decision, Report):
            check_report(life, grant, decision, now)
        else:
            check_postponement(life, grant, decision, now)

    def known(self) -> float:
        """Return the time, as the worker that runs knows it."""
        assert self.running.clock is not None
        return seconds(self.running.clock.to_database(self.monotonic()))

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
            self.checker.observed(self.postgres.rows())
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
            self._tell(write.kind, write.item, answer)

    def _tell(self, kind: str, item: Any, answer: Any) -> None:
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

    def cancel(self, timer_id: UUID) -> None:
        """Cancel a timer, or be told that it can't be."""
        if changing.cancel(timer_id):
            self.checker.cancelled(timer_id)
        else:
            self.checker.not_cancelled(timer_id)

    def move(self, timer_id: UUID, delay: float) -> None:
        """Move a timer, or be told that it can't be moved."""
        change = Change(timer_id, "moved", delay=timedelta(seconds=delay))
        (stored,) = changing.change([change])
        if stored is None:
            self.checker.not_cancelled(timer_id)
            return
        self.checker.moved(timer_id, self.now + delay)
        if stored.publish_at is not None:
            publishing.publish([DueMessage(timer_id, stored.publish_at)])

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

    def _read_clock(self, connection: Connection) -> ClockReading:
        reading = rows.read_clock(connection)
        duration, self._hold_up = self._hold_up, 0.0
        if duration:
            self.cut_off(duration)
        return reading

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
            grant is None or not grant.late or grant.judged,
            "too late, and it was not said so",
        )

    def _take_over(
        self, take_over: Callable[..., Any], **options: Any
    ) -> list[tuple[UUID, Outcome | None]]:
        ended: list[tuple[UUID, Outcome | None]] = take_over(**options)
        self._tries_ended |= bool(ended)
        for timer_id, outcome in ended:
            self.checker.taken_over(timer_id, outcome, self.now)
        return ended

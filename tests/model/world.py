"""The service in small: real code, and everything around it simulated.

Workers run `firing.fire`, dispatchers `dispatcher.run_once`, both against
the real store on real Postgres. What is between them (network, RabbitMQ,
receivers, clocks, threads) does what the scheduler says.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

import dramatiq
import psycopg
import uuid_utils.compat
from django.conf import settings

from apps.broker.middleware import LeaveUnacknowledged
from apps.timers import dispatcher, firing, publishing, store
from apps.timers.models import Outcome
from apps.timers.records import Claim, ClockReading, NewTimer
from apps.webhooks.client import FailureKind, Result
from tests.model.checker import Checker, must
from tests.model.postgres import Postgres, Row, seconds
from tests.model.task import Killed, Task
from tests.model.worker import Worker, Write

#: Connecting is tried for so long, in seconds: short, to see its end.
PATIENCE = 60.0
_URL = "http://127.0.0.1:9/"
#: The groups of `firing`, and what they write with.
_WRITES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "_claims": store.claim,
    "_renewals": store.renew,
    "_records": store.record,
    "_postponements": store.postpone,
}


class World:
    """All processes, and the time."""

    def __init__(self, postgres: Postgres, most_reopenings: int) -> None:
        self.postgres = postgres
        self.checker = Checker()
        self.now = 0.0
        self.workers = [Worker(skew) for skew in (5.0, 5.0, -5.0)]
        self.timers: list[UUID] = []
        #: Messages by timer, and from when RabbitMQ delivers them.
        self.messages: list[tuple[UUID, float]] = []
        #: Writes whose clients have given up, but which may yet arrive.
        self.late: list[Write] = []
        self.refusing: Callable[[], None] | None = None
        self.busy = False
        self._suspended = 0.0
        self._cut_off_until = -1e9
        self._hold_up = 0.0
        self._running = self.workers[0]
        self._stack = ExitStack()
        self._patch(most_reopenings)
        postgres.begin()

    def close(self) -> None:
        """End all threads and forget the table."""
        for worker in self.workers:
            if worker.task:
                worker.task.kill()
        self._stack.close()
        self.postgres.end()

    def _patch(self, most_reopenings: int) -> None:
        clock = SimpleNamespace(monotonic=self._monotonic, sleep=self._sleep)
        take_over, read_clock = store.take_over, store._read_clock
        replacements: list[tuple[Any, str, Any]] = [
            (store, "pool", lambda: self.postgres),
            (store, "time", clock),
            (store, "MOST_REOPENINGS", most_reopenings),
            (store, "take_over", lambda **o: self._take_over(take_over, **o)),
            (store, "_read_clock", lambda c: self._read_clock(read_clock(c))),
            (firing, "time", clock),
            (firing, "lease_clock", lambda: self.now + self._running.skew),
            (firing, "stopping", SimpleNamespace(wait=self._pause)),
            (firing, "backoff", lambda failures: 2.0 ** (failures - 1)),
            (firing, "_client", lambda: self),
            (firing, "mark_writer", lambda: self._running),
            (publishing, "time", clock),
            (publishing, "get_broker", lambda: self),
            (dispatcher, "get_broker", lambda: self),
            (dispatcher, "POSTGRES", self),
            (settings, "WEBHOOK_CONNECT_RETRY_SECONDS", PATIENCE),
        ]
        replacements += [
            (firing, name, SimpleNamespace(submit=self._submitter(name)))
            for name in _WRITES
        ]
        for module, name, value in replacements:
            self._stack.enter_context(mock.patch.object(module, name, value))

    # What the code under test sees.

    def _monotonic(self) -> float:
        return self.now + self._running.skew - self._suspended

    def _ask(self, request: object) -> Any:
        assert self._running.task is not None
        return self._running.task.ask(request)

    def _sleep(self, duration: float) -> None:
        if duration > 0:
            self._ask(("sleep", self.now + duration))

    def _pause(self, _: float) -> bool:
        return bool(self._ask(("pause",)))

    def _submitter(self, kind: str) -> Callable[..., Any]:
        def submit(item: Any, *, timeout: float) -> Any:
            if kind == "_claims":
                self._running.token = item.token
            if kind == "_postponements":
                self.checker.postponing(item, self.now - self._suspended)
            return self._ask(Write(kind, item, self._running, self.now))

        return submit

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
        """Stand in for WebhookClient; see its contract."""
        timer_id = UUID(headers["webhook-id"])
        if not self._ask(("connect",)):
            return _result(FailureKind.refused)
        try:
            before_send()
        except firing.ClaimLost:
            return _result(FailureKind.aborted)
        self._ask(("send",))
        if self._monotonic() >= deadline:
            return _result(FailureKind.aborted)
        assert self._running.token is not None
        self.checker.sending(timer_id, self._running.token, self.now)
        self._ask(("sent",))
        on_sent()
        must(self._running.token in self._running.marks, "no mark was made")
        if not self._ask(("answer",)):
            return _result(FailureKind.timeout)
        return Result(200, None, "", True, b"", 0)

    def depth(self, queue: str) -> int:
        """Stand in for the broker."""
        return 1000 if self.busy else 0

    def forget_topology(self) -> None:
        """Stand in for the broker."""

    def enqueue_many(
        self, messages: Sequence[tuple[dramatiq.Message[Any], int]]
    ) -> list[Exception | None]:
        """Stand in for the broker."""
        if self.refusing is not None:
            self.refusing()
            return [ConnectionError() for _ in messages]
        for message, delay in messages:
            ready = self.now + delay / 1000
            self.messages.append((UUID(message.args[0]), ready))
        return [None] * len(messages)

    def ended_within(self, duration: float) -> bool:
        """Stand in for the dispatcher's outages."""
        return self.now - self._cut_off_until <= duration

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

    def advance(self, duration: float) -> None:
        """Let time pass."""
        self.now = round(self.now + duration, 6)
        self.postgres.set_clock("now", self.now)

    def suspend(self, duration: float) -> None:
        """Suspend the machines; their monotonic clocks stand still."""
        self._suspended += duration
        self.advance(duration)

    def create(self, delay: float, *, again: bool, queued: bool) -> None:
        """Store a timer; `queued` ones lose their first message."""
        timer = NewTimer(
            uuid_utils.compat.uuid7(), _URL, timedelta(seconds=delay),
            queued, again,
        )
        store.create([timer])
        self.checker.created(timer, self.now)
        self.timers.append(timer.id)

    def deliver(self, worker: Worker, timer_id: UUID, held: bool) -> None:
        """Hand a message to an idle worker."""

        def fire() -> None:
            try:
                firing.fire(timer_id)
            except LeaveUnacknowledged:
                self._give_back(worker)

        worker.timer, worker.holds_message = timer_id, held
        worker.task = Task(fire)
        self._run(worker, worker.task.start)

    def step(self, worker: Worker, *, well: bool) -> None:
        """Let a worker do its next step; not well: that fails."""
        request = worker.request
        if isinstance(request, Write):
            self._step_write(worker, request, well)
        elif request[0] == "sleep":
            self.advance(max(0.0, request[1] - self.now))
            self._resume(worker, None)
        elif request[0] == "pause":
            self._resume(worker, not well)  # the process is to stop
        else:
            self._resume(worker, well)

    def _step_write(self, worker: Worker, write: Write, well: bool) -> None:
        if not well:
            if not write.done:
                self.late.append(write)
            self._resume(worker, psycopg.OperationalError("no answer"))
        elif not write.done:
            self.execute([write])
        else:
            granted = isinstance(write.answer, Claim)
            if granted or (write.kind == "_renewals" and write.answer):
                self.checker.answered(write.item, write.asked_at)
            self._resume(worker, write.answer)

    def execute(self, writes: list[Write]) -> None:
        """Write a group: of one kind, and from one machine."""
        self._running = writes[0].worker
        answers = _WRITES[writes[0].kind]([write.item for write in writes])
        for write, answer in zip(writes, answers, strict=True):
            write.done, write.answer = True, answer
            self._tell(write)

    def _tell(self, write: Write) -> None:
        kind, item, answer = write.kind, write.item, write.answer
        if kind == "_claims":
            if isinstance(answer, Claim):
                self.checker.granted(answer, self.now)
            elif answer is None:
                self.checker.refused(item)
        elif kind == "_renewals":
            self.checker.renewed(item, answer, self.now)
        elif kind == "_records":
            self.checker.recorded(item, answer, self.now)
        else:
            self.checker.postponed(item, answer, self.now)

    def write_marks(self, worker: Worker, *, well: bool) -> None:
        """Write what is in flight, or fail to; see MarkWriter."""
        marks, worker.flying = worker.flying, []
        if well:
            store.mark_sent(marks)
            for mark in marks:
                self.checker.marked(mark, self.now)
        else:
            worker.marks = {m.token: m for m in marks} | worker.marks

    def crash(self, worker: Worker) -> None:
        """Kill a worker's process where it stands."""
        request = worker.request
        if isinstance(request, Write) and not request.done:
            self.late.append(request)
        if worker.task:
            worker.task.kill()
        self._give_back(worker)
        worker.task = None
        worker.marks.clear()
        worker.flying.clear()

    def dispatch(self, trouble: str = "") -> None:
        """Run one pass of a dispatcher, with trouble publishing."""

        def die() -> None:
            raise Killed

        self._running = self.workers[0]
        self.refusing = {
            "": None, "refused": lambda: None, "dies": die,
        }[trouble]
        try:
            dispatcher.run_once()
        except Killed:
            pass
        finally:
            self.refusing = None

    def cancel(self, timer_id: UUID) -> None:
        """Cancel a timer, or be told that it can't be."""
        if store.cancel(timer_id):
            self.checker.cancelled(timer_id)
        else:
            self.checker.not_cancelled(timer_id)

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

    def _read_clock(self, reading: ClockReading) -> ClockReading:
        duration, self._hold_up = self._hold_up, 0.0
        if duration:
            self.cut_off(duration)
        return reading

    def drain(self) -> None:
        """Have all be well from now on: every timer ends in time."""
        for write in self.late:
            self.execute([write])
        self.late.clear()
        self.busy = False
        deadline = self._latest() + 40
        while True:
            self._drain_workers()
            self.dispatch()
            self._drain_messages()
            self.observe()
            if not self._unended():
                return
            must(self.now <= deadline, "a timer did not end in time")
            self.advance(5)

    def _latest(self) -> float:
        """Return when the last of due times and leases will have passed."""
        times = [self.now + store.SETTLE.total_seconds()]
        for row in self._unended():
            times += [
                seconds(row[name])
                for name in ("next_at", "leased_until")
                if row[name]
            ]
        return max(times)

    def _unended(self) -> list[Row]:
        rows = self.postgres.rows().values()
        return [row for row in rows if row["outcome"] is None]

    def _drain_workers(self) -> None:
        for worker in self.workers:
            while worker.request is not None:
                self.step(worker, well=True)
            worker.flying += worker.marks.values()
            worker.marks.clear()
            if worker.flying:
                self.write_marks(worker, well=True)

    def _drain_messages(self) -> None:
        ready = [m for m in self.messages if m[1] <= self.now]
        self.messages = [m for m in self.messages if m[1] > self.now]
        for timer_id, _ in ready:
            self.deliver(self.workers[0], timer_id, False)
            self._drain_workers()

    def _give_back(self, worker: Worker) -> None:
        if worker.holds_message and worker.timer is not None:
            self.messages.append((worker.timer, self.now))
        worker.holds_message = False

    def _resume(self, worker: Worker, answer: object) -> None:
        task = worker.task
        assert task is not None
        self._run(worker, lambda: task.resume(answer))

    def _run(self, worker: Worker, run: Callable[[], None]) -> None:
        self._running = worker
        run()
        if worker.request is None:
            worker.task, worker.holds_message = None, False

    def _take_over(
        self, take_over: Callable[..., Any], **options: Any
    ) -> list[tuple[UUID, Outcome | None]]:
        ended: list[tuple[UUID, Outcome | None]] = take_over(**options)
        for timer_id, outcome in ended:
            self.checker.taken_over(timer_id, outcome, self.now)
        return ended


def _result(failure: FailureKind) -> Result:
    return Result(None, failure, "", not failure.unsent, b"", 0)

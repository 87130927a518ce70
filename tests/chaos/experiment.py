"""One fault, the timers that live through it, and what became of each.

The reference checker: it knows what was answered 201 or 204, and what the
receiver saw, and takes nobody's word for anything else.
"""

import http.client
import itertools
import json
import math
import random
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.support.receiver import Call, Receiver
from tests.support.waiting import eventually

#: A call that is later than this is not "normal", in seconds.
NORMAL = 1.0
#: How many creates and cancels are under way at the same time.
_CLIENTS = 16
#: After how many seconds a client gives up on an answer.
_PATIENCE = 5.0
#: For how many seconds a web process that has failed is left alone.
_REST = 1.0
#: How far from a fault a call may be that the fault is held to explain.
_SLACK = 0.5

Address = tuple[str, int]


@dataclass(frozen=True)
class Created:
    """A timer that was answered 201; times are the machine's clock."""

    id: str
    asked: float
    answered: float
    seconds: int


@dataclass(frozen=True)
class Row:
    """What became of an experiment's timers; times in seconds."""

    fault: str
    timers: int
    #: Created, not cancelled, and never called.
    lost: int
    #: Called more than once.
    twice: int
    #: Called once or never, and the service says that it does not know.
    unknown: int
    #: Of each timer's first call.
    late_p50: float
    late_p99: float
    late_max: float
    #: From the fault's end to the last call that was over a second late.
    normal_after: float
    #: Creates that were not answered 201, each tried again.
    refused: int
    outcomes: Counter[str | None] = field(compare=False)


class Experiment:
    """Sets timers through some web processes, and judges their calls."""

    def __init__(
        self,
        fault: str,
        webs: Sequence[Address],
        receiver: Receiver,
        database_url: str,
    ) -> None:
        """Take what the table will call it, and whom to talk to."""
        self.fault = fault
        self.receiver = receiver
        self.created: dict[str, Created] = {}
        self.cancelled: set[str] = set()
        self.refused = 0
        self._webs = webs
        self._turns = itertools.cycle(webs)
        self._failed_at = dict.fromkeys(webs, -math.inf)
        self._database_url = database_url
        self._lock = threading.Lock()
        self._clients: list[threading.Thread] = []
        self._struck_at: list[float] = []
        self._healed_at = time.time()

    def set_timers(
        self,
        count: int,
        *,
        rate: float,
        seconds: Sequence[int],
        url: str = "",
        delivery: str = "once",
    ) -> None:
        """Begin to create `count` timers, `rate` a second; return at once.

        Each is due in one of `seconds`, at random. A create that fails is
        tried again, with another web process, until it is answered 201.
        """
        numbers = itertools.count()
        start = time.monotonic()

        def client() -> None:
            while (number := next(numbers)) < count:
                time.sleep(max(0, start + number / rate - time.monotonic()))
                self.set_timer(
                    random.choice(seconds), url=url, delivery=delivery
                )

        started = [
            threading.Thread(target=client, daemon=True)
            for _ in range(_CLIENTS)
        ]
        for thread in started:
            thread.start()
        self._clients += started

    def set_timer(
        self, seconds: int, *, url: str = "", delivery: str = "once"
    ) -> Created:
        """Create one timer, however often that has to be tried."""
        body = {
            "hours": 0,
            "minutes": 0,
            "seconds": seconds,
            "url": url or self.receiver.url(),
            "delivery": delivery,
        }
        while True:
            asked = time.time()
            try:
                status, answer = self.request("POST", "/timer", body)
            except (OSError, http.client.HTTPException):
                status, answer = 0, None
            if status == 201:
                made = Created(answer["id"], asked, time.time(), seconds)
                self.created[made.id] = made
                return made
            assert status in (0, 503), (status, answer)
            with self._lock:
                self.refused += 1
            time.sleep(random.uniform(0.05, 0.2))

    def store_overdue(self, count: int, *, seconds: int) -> None:
        """Write timers to Postgres whose time passed while nothing ran."""
        asked = time.time()
        rows = self._query(
            "INSERT INTO timer (id, url, created_at, due_at, next_at)"
            f" SELECT gen_random_uuid(), '{self.receiver.url()}', now(),"
            f" now() - interval '{seconds} s', now() - interval '{seconds} s'"
            f" FROM generate_series(1, {count}) RETURNING id"
        )
        answered = time.time()
        for (timer,) in rows:
            made = Created(str(timer), asked, answered, -seconds)
            self.created[made.id] = made

    def all_set(self, *, within: float = 120.0) -> None:
        """Wait until every timer is created."""
        deadline = time.monotonic() + within
        for thread in self._clients:
            thread.join(max(0, deadline - time.monotonic()))
            assert not thread.is_alive(), "timers can't be created"
        self._clients.clear()

    def cancel(self, timer: str) -> int:
        """Cancel a timer; return the status, 0 if there was no answer."""
        try:
            status, _ = self.request("DELETE", f"/timer/{timer}")
        except (OSError, http.client.HTTPException):
            return 0
        if status == 204:
            self.cancelled.add(timer)
        return status

    def struck(self) -> None:
        """Note that a worker is hit now, or whatever ends its calls.

        An experiment that notes it has each timer that is `unknown` or
        called twice explained: its call was under way at such a moment.
        """
        self._struck_at.append(time.time())

    def healed(self) -> None:
        """Note that the fault has ended."""
        self._healed_at = time.time()

    def request(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, Any]:
        """Send one request to the next web process."""
        web = self._next_web()
        link = http.client.HTTPConnection(*web, timeout=_PATIENCE)
        status = 0
        try:
            link.request(
                method, path, None if body is None else json.dumps(body),
                {"content-type": "application/json"},
            )
            answer = link.getresponse()
            text = answer.read()
            status = answer.status
            return status, json.loads(text) if text else None
        finally:
            link.close()
            if status in (0, 503):
                self._failed_at[web] = time.monotonic()

    def _next_web(self) -> Address:
        """Return whose turn it is, as a load balancer would find.

        One that has just failed is passed over while there are others.
        """
        with self._lock:
            for web in itertools.islice(self._turns, len(self._webs)):
                if time.monotonic() - self._failed_at[web] > _REST:
                    break
            return web

    def outcomes(self) -> dict[str, str | None]:
        """Return how each timer has ended, None while it has not."""
        rows = self._query("SELECT id, outcome FROM timer")
        return {
            str(timer): outcome
            for timer, outcome in rows
            if str(timer) in self.created
        }

    def judge(self, *, within: float) -> Row:
        """Wait until every timer has ended; check its calls; count.

        No worker can claim a timer that has an outcome, so who was called
        once by then is called once for ever. Raises AssertionError for
        what may never happen: a call that is early, or of a cancelled
        timer; no call, though the service says that the request left.
        """
        self.all_set()
        eventually(lambda: self._unended() == 0, within=within, every=0.25)
        calls, outcomes = self._calls(), self.outcomes()
        for timer, made in self.created.items():
            self._check(made, outcomes[timer], calls.get(timer, []))
        late = sorted(c[0].late for t, c in calls.items() if t in self.created)
        parts = statistics.quantiles(late, n=100) if len(late) > 1 else late
        abnormal = [
            call[0].arrived for call in calls.values() if call[0].late > NORMAL
        ]
        return Row(
            fault=self.fault,
            timers=len(self.created),
            lost=sum(
                timer not in calls
                for timer in self.created
                if timer not in self.cancelled
            ),
            twice=sum(len(calls.get(t, [])) > 1 for t in self.created),
            unknown=list(outcomes.values()).count("unknown"),
            late_p50=parts[len(parts) // 2],
            late_p99=parts[-1],
            late_max=late[-1],
            normal_after=max([0.0, *(t - self._healed_at for t in abnormal)]),
            refused=self.refused,
            outcomes=Counter(outcomes.values()),
        )

    def _calls(self) -> dict[str, list[Call]]:
        calls: dict[str, list[Call]] = defaultdict(list)
        for call in list(self.receiver.calls):
            assert call.headers["webhook-id"] == call.timer
            calls[call.timer].append(call)
        return calls

    def _check(
        self, made: Created, outcome: str | None, calls: Sequence[Call]
    ) -> None:
        assert not (calls and made.id in self.cancelled), (
            "a cancelled timer was called"
        )
        for call in calls:
            due = call.arrived - call.late
            assert call.late >= 0, f"called {call.late} s early"
            assert made.asked <= due - made.seconds <= made.answered, (
                "the time that the call says is not the one that was set"
            )
        if outcome in ("delivered", "unknown"):
            assert calls, f"{outcome}, and never called"
        if self._struck_at and (outcome == "unknown" or len(calls) > 1):
            assert self._was_struck(calls[0]), f"{outcome}, {calls}: why?"

    def _was_struck(self, call: Call) -> bool:
        """Tell whether a fault hit while the call may have been under way.

        A busy receiver notes calls late, and takes longer to answer.
        """
        longest = self.receiver.delay + self.receiver.jitter
        return any(
            -_SLACK < struck - call.arrived < longest + _SLACK
            for struck in self._struck_at
        )

    def _unended(self) -> int:
        """Count the timers without an outcome; -1 when nobody answers."""
        with suppress(psycopg.OperationalError):
            ((count,),) = self._query(
                "SELECT count(*) FROM timer WHERE outcome IS NULL"
            )
            return int(count)
        return -1

    def _query(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._database_url, connect_timeout=2) as link:
            return link.execute(query).fetchall()


#: What fixtures return: makes experiments, and puts rows into the table.
Make = Callable[..., Experiment]
Note = Callable[[Row], Row]

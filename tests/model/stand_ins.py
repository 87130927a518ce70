"""What the code under test sees in place of the world."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.core import reaching
from apps.timers import changes, decisions, services
from apps.timers.firing import call, claims, fire
from apps.timers.scheduling import dispatcher, publishing
from apps.timers.storage import (
    aside,
    by_key,
    changing,
    claim_records,
    claiming,
    creating,
    holding,
    limiting,
    looking,
    naming,
    queueing,
    recording,
    records,
    replaying,
    taking_over,
)
from apps.timers.storage.claim_records import Postponement, Report
from apps.webhooks import retry
from tests.model.checker import MOST_ATTEMPTS
from tests.model.judging import PATIENCE, check_postponement, check_report
from tests.model.life import Grant, doubled
from tests.model.limits import PAUSE
from tests.model.web import pool_here
from tests.model.worker import Write

if TYPE_CHECKING:
    from tests.model.world import World

Replacement = tuple[Any, str, Any]


class _Each:
    """Stands in for WriteBehind."""

    def __init__(self, flush: Callable[[Sequence[Any]], None]) -> None:
        self._flush = flush

    def add(self, item: Any) -> None:
        self._flush([item])


class _Alone:
    """Stands in for GroupCommit: each caller has a process of its own."""

    def __init__(
        self, flush: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> None:
        self._flush = flush

    def submit(self, item: Any, *, timeout: float) -> Any:
        return self._flush([item])[0]


def stand_ins(
    world: "World", most_reopenings: int
) -> Iterator[Replacement]:
    """Return modules, names in them, and what these are to stand for."""
    yield from _surroundings(world)
    yield from _workers_writes(world)
    yield from _callers_writes(world)
    yield taking_over, "MOST_REOPENINGS", most_reopenings
    yield replaying, "MOST_ATTEMPTS", MOST_ATTEMPTS
    yield decisions, "backoff", partial(doubled, 1.0)
    yield retry, "backoff", lambda n, *of: doubled(of[0], n, of[1])
    yield settings, "WEBHOOK_CONNECT_RETRY_SECONDS", PATIENCE
    yield settings, "RABBITMQ_URL", "amqp://127.0.0.1/"


def _surroundings(world: "World") -> Iterator[Replacement]:
    """Return Postgres, clocks, RabbitMQ and receivers."""

    def sleep(duration: float) -> None:
        if duration > 0:
            world.ask(("sleep", world.now + duration))

    for module in (
        aside, by_key, changing, claiming, creating, holding, looking,
        naming, queueing, replaying, taking_over,
    ):
        yield module, "pool", lambda: pool_here(world.postgres)
    clock = SimpleNamespace(monotonic=world.monotonic, sleep=sleep)
    for module in (
        fire, call, claims, claim_records, publishing, creating, records,
        taking_over,
    ):
        yield module, "time", clock
    for module in (
        by_key, changing, claiming, creating, naming, queueing, taking_over,
    ):
        yield module, "read_clock", world.read_clock
    take_over = taking_over.take_over
    yield taking_over, "take_over", partial(world.take_over, take_over)
    yield claims, "lease_clock", world.lease_clock
    yield claims, "mark_writer", lambda: world.running
    yield claims, "stopping", SimpleNamespace(
        wait=lambda _: bool(world.ask(("pause",)))
    )
    yield call, "client", lambda: world.receivers
    yield call, "destinations", lambda: world.receivers
    yield publishing, "get_broker", lambda: world.rabbitmq
    yield dispatcher, "get_broker", lambda: world.rabbitmq
    yield dispatcher, "POSTGRES", world


def _callers_writes(world: "World") -> Iterator[Replacement]:
    for module in (changes, services):
        yield module, "is_limited", world.is_limited
    yield changes, "_creates", {
        limited: _Alone(partial(naming.create, limited=limited))
        for limited in (False, True)
    }
    yield changes, "_puts", {
        limited: _Alone(partial(by_key.put, limited=limited))
        for limited in (False, True)
    }
    yield limiting, "PAUSE", PAUSE
    yield changes, "_changes", _Alone(changing.change)
    yield changes, "publish_later", lambda *timers: publishing.publish(timers)
    quiet = SimpleNamespace(failed=lambda **_: None, worked=lambda: None)
    yield reaching, "POSTGRES", quiet


def _workers_writes(world: "World") -> Iterator[Replacement]:
    """Return what writes at once what is added, and asks the world."""
    for name in ("_claims", "_renewals"):
        submit = partial(_submit, world, name)
        yield claims, name, SimpleNamespace(submit=submit)
    # In the model, the thread that adds something also writes it.
    yield claims, "_records", _Each(claims._record)
    yield claims, "_postponements", _Each(claims._postpone)
    yield claims, "recording", SimpleNamespace(
        record=partial(_write, world, "_records"),
        postpone=partial(_write, world, "_postponements"),
    )
    yield dispatcher, "recording", SimpleNamespace(
        record_for_the_dead=partial(
            _for_the_dead, world, "_records", recording.record_for_the_dead
        ),
        postpone=partial(
            _for_the_dead, world, "_postponements", recording.postpone
        ),
    )


def _submit(world: "World", kind: str, item: Any, *, timeout: float) -> Any:
    if kind == "_claims":
        world.running.token = item.token
    return world.ask(Write(kind, item, world.running, world.now))


def _write(world: "World", kind: str, items: Sequence[Any]) -> list[Any]:
    (item,) = items
    grant = world.checker.lives[item.id].grants[item.token]
    if not grant.judged and not grant.over:  # else the write is repeated
        grant.judged = True
        _check(world, item, grant, world.known())
    return [world.ask(Write(kind, item, world.running, world.now))]


def _for_the_dead(
    world: "World",
    kind: str,
    run: Callable[[Sequence[Any]], list[bool]],
    items: Sequence[Any],
) -> list[bool]:
    answers = run(items)
    for item, answer in zip(items, answers, strict=True):
        grant = world.checker.answered_for(item, world.now)
        _check(world, item, grant, world.now)
        world.tell(kind, item, answer)
    return answers


def _check(
    world: "World", decision: Report | Postponement, grant: Grant, now: float
) -> None:
    life = world.checker.lives[decision.id]
    if isinstance(decision, Report):
        check_report(life, grant, decision, now)
    else:
        check_postponement(life, grant, decision, now)

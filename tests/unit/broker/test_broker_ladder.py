"""The ladder, climbed in a simulator that knows only what was declared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.broker import ladder
from apps.broker.topology import Declarer, Refusals

QUEUES = ("timers", "timers.overdue")


class FakeRabbit:
    """Exchanges, bindings, TTLs and dead-lettering as RabbitMQ has them."""

    def __init__(self) -> None:
        self.exchanges: dict[str, dict[str, Any]] = {}
        self.queues: dict[str, dict[str, Any]] = {}
        self.bindings: set[tuple[str, str, str]] = set()

    def exchange_declare(
        self,
        exchange: str,
        *,
        exchange_type: Any,
        durable: bool,
        arguments: Any,
    ) -> None:
        assert exchange_type == "topic"
        assert durable
        self.exchanges[exchange] = dict(arguments)

    def queue_declare(
        self, queue: str, *, durable: bool, arguments: Any
    ) -> None:
        assert durable
        assert self.queues.get(queue, arguments) == arguments
        self.queues[queue] = dict(arguments)

    def queue_bind(self, queue: str, exchange: str, routing_key: str) -> None:
        assert queue in self.queues
        assert exchange in self.exchanges
        self.bindings.add((exchange, routing_key, queue))

    def route(self, exchange: str, key: str) -> str:
        """Return the one queue that a message gets into."""
        found = {
            queue
            for bound_to, pattern, queue in self.bindings
            if bound_to == exchange
            and matches(pattern.split("."), key.split("."))
        }
        if not found:
            alternate = self.exchanges[exchange]["alternate-exchange"]
            return self.route(alternate, key)
        assert len(found) == 1, f"{key} would be copied to {found}"
        return found.pop()

    def travel(self, exchange: str, key: str) -> tuple[str, int, int]:
        """Return where a message ends, after how many ms and hops."""
        waited = hops = 0
        while True:
            queue = self.route(exchange, key)
            arguments = self.queues[queue]
            if "x-message-ttl" not in arguments:
                return queue, waited, hops
            # The key must survive dead-lettering.
            assert "x-dead-letter-routing-key" not in arguments
            waited += arguments["x-message-ttl"]
            hops += 1
            exchange = arguments["x-dead-letter-exchange"]


def matches(pattern: list[str], key: list[str]) -> bool:
    """Match a topic binding, by AMQP's rules for * and #."""
    if not pattern:
        return not key
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return any(matches(rest, key[i:]) for i in range(len(key) + 1))
    return bool(key) and head in ("*", key[0]) and matches(rest, key[1:])


def whole_ladder() -> FakeRabbit:
    rabbit = FakeRabbit()
    declarer = Declarer(rabbit, "classic", Refusals())
    for queue in QUEUES:
        everything = ladder.Route("", "", ladder.rungs(), queue)
        declarer.route(everything)
    return rabbit


WHOLE = whole_ladder()


def check_climb(rabbit: FakeRabbit, delay: int, queue: str) -> None:
    route = ladder.route(delay, queue)
    end, waited, hops = rabbit.travel(route.exchange, route.routing_key)
    assert end == queue
    assert waited == delay // ladder.RUNG_MS * ladder.RUNG_MS
    assert waited == sum(rung.ttl_ms for rung in route.rungs)
    assert hops == len(route.rungs) <= 2


@pytest.mark.parametrize("queue", QUEUES)
def test_every_delay_climbs_down_to_itself(queue: str) -> None:
    for hundredths in range(ladder.HORIZON_MS // ladder.RUNG_MS + 1):
        check_climb(WHOLE, hundredths * ladder.RUNG_MS, queue)


@given(st.integers(0, ladder.HORIZON_MS), st.sampled_from(QUEUES))
@example(0, "timers")
@example(9, "timers")
@example(59_999, "timers")
@example(60_000, "timers.overdue")
def test_what_a_route_declares_is_enough_for_it(
    delay: int, queue: str
) -> None:
    rabbit = FakeRabbit()
    Declarer(rabbit, "quorum", Refusals()).route(ladder.route(delay, queue))
    check_climb(rabbit, delay, queue)


@given(st.integers(0, ladder.HORIZON_MS), st.data())
def test_a_missing_rung_makes_it_early_and_loses_nothing(
    delay: int, data: st.DataObject
) -> None:
    route = ladder.route(delay, "timers")
    present = data.draw(st.sets(st.sampled_from(route.rungs or [None])))
    rabbit = FakeRabbit()
    Declarer(rabbit, "classic", Refusals()).route(
        ladder.Route(
            route.exchange,
            route.routing_key,
            tuple(rung for rung in route.rungs if rung in present),
            route.queue,
        )
    )
    end, waited, _ = rabbit.travel(route.exchange, route.routing_key)
    assert end == "timers"
    assert waited <= delay


@given(
    st.integers(max_value=-1) | st.integers(min_value=ladder.HORIZON_MS + 1)
)
def test_no_delay_beyond_the_horizon(delay: int) -> None:
    with pytest.raises(ValueError, match="60000 ms"):
        ladder.route(delay, "timers")


def test_names_are_unique_and_say_what_they_are() -> None:
    names = [rung.queue for rung in ladder.rungs()]
    assert len(set(names)) == len(names) == 60 + 99
    assert {"delay.1s", "delay.60s", "delay.10ms", "delay.990ms"} <= {*names}
    assert not {*names} & {*ladder.EXCHANGES, *QUEUES}


def test_every_queue_names_its_type() -> None:
    rabbit = FakeRabbit()
    Declarer(rabbit, "quorum", Refusals()).route(
        ladder.route(30_250, "timers")
    )
    assert {
        name: arguments["x-queue-type"]
        for name, arguments in rabbit.queues.items()
    } == {
        "timers": "quorum",
        "timers.XQ": "quorum",
        "delay.30s": "classic",
        "delay.250ms": "classic",
    }


def test_things_are_declared_once_until_forgotten() -> None:
    rabbit = FakeRabbit()
    declarer = Declarer(rabbit, "classic", Refusals())
    route = ladder.route(30_250, "timers")
    declarer.route(route)
    everything = set(rabbit.queues)

    rabbit.queues.clear()
    declarer.route(route)
    assert not rabbit.queues

    declarer.forget()
    declarer.route(route)
    assert set(rabbit.queues) == everything

"""What RabbitMQ refuses: queues beyond a limit, a password that changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from dramatiq.errors import ConnectionClosed

from apps.broker import ladder, link, rabbitmq, topology
from apps.broker.rabbitmq import LadderBroker
from tests.support.messages import message
from tests.support.waiting import at_best, eventually

pytestmark = pytest.mark.rabbitmq

REFUSED = (
    "RabbitMQ refuses rungs of the ladder; timers go without them, and may "
    "be late"
)


def limit_queues(management: Any, most: int) -> None:
    path = "/vhost-limits/{vhost}/max-queues"
    management.call("PUT", path, {"value": most})


def reasons(caplog: pytest.LogCaptureFixture, message: str) -> list[str]:
    return [
        vars(record)["error"]
        for record in caplog.records if record.getMessage() == message
    ]


@pytest.fixture
def broker(
    url: str, make_broker: Callable[..., LadderBroker]
) -> LadderBroker:
    """Return a broker that knows its two queues, as in every process."""
    broker = make_broker(url)
    broker.declare_queue("timers")
    broker.declare_queue("timers.overdue")
    return broker


@pytest.mark.quiet
def test_the_ladder_does_without_the_rungs_beyond_a_limit(
    broker: LadderBroker,
    url: str,
    management: Any,
    receive: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a virtual host with 40 queues at most
    monkeypatch.setattr(topology, "AGAIN", 0.5)
    limit_queues(management, 40)
    eventually(broker.is_connected)
    eventually(lambda: reasons(caplog, REFUSED))

    # When messages are sent with every kind of delay
    received = receive(url)
    delays = [0, 10, 990, 1000, 1070, 1930]

    def lateness() -> float:
        received.keys.clear()
        received.times.clear()
        began = time.monotonic()
        outcomes = broker.enqueue_many([(message(d), d) for d in delays])
        assert outcomes == [None] * len(delays)
        eventually(lambda: set(received.keys) == set(delays))
        late: list[float] = [
            came - began - delay / 1000
            for delay, came in zip(received.keys, received.times, strict=True)
        ]
        return max(late)

    # Then all come, not late; and it is said what is missing, and why
    at_best(lateness, under=0.5)
    assert "queue limit" in reasons(caplog, REFUSED)[0]
    assert any(
        vars(record).get("rungs") == "123 of 159" for record in caplog.records
    )
    names = set(management.queues())
    assert {"timers", "timers.XQ", "timers.overdue"} <= names

    # And when the limit is lifted, the ladder is whole by itself
    limit_queues(management, 1000)
    whole = "RabbitMQ has every rung of the ladder again"
    eventually(lambda: whole in caplog.messages)
    began = time.monotonic()
    broker.enqueue(message("exact"), delay=590)
    eventually(lambda: "exact" in received.keys)
    assert received.times[-1] >= began + 0.59
    assert len(management.queues()) == len(ladder.rungs()) + 4


def test_a_process_that_starts_knows_what_is_refused_before_it_publishes(
    broker: LadderBroker,
    management: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A refusal on the channel that publishes would fail all that is on it. On
    # a busy machine RabbitMQ makes twenty queues in more than two seconds.
    monkeypatch.setattr(link, "LADDER_SECONDS", 30)
    for module in link, rabbitmq:
        monkeypatch.setattr(module, "REPLY_SECONDS", 30)
    limit_queues(management, 20)
    delays = range(100, 60_000, 590)
    outcomes = broker.enqueue_many([(message(d), d) for d in delays])
    assert set(outcomes) == {None}
    eventually(lambda: reasons(caplog, REFUSED))
    assert not reasons(caplog, "RabbitMQ is away, trying on")


def test_without_any_rung_a_delayed_message_is_not_taken(
    broker: LadderBroker, management: Any, caplog: pytest.LogCaptureFixture
) -> None:
    limit_queues(management, 4)
    eventually(broker.is_connected)
    eventually(lambda: reasons(caplog, REFUSED))
    with pytest.raises(ConnectionClosed, match="refuses every rung"):
        broker.enqueue(message("delayed"), delay=500)
    broker.enqueue(message("at once"))
    assert broker.is_connected()


def test_queues_that_cannot_do_without_are_told_with_the_reason(
    broker: LadderBroker, management: Any, caplog: pytest.LogCaptureFixture
) -> None:
    limit_queues(management, 2)
    away = "RabbitMQ is away, trying on"
    with pytest.raises(ConnectionClosed):
        broker.enqueue(message("lost"))
    eventually(lambda: "queue limit" in " ".join(reasons(caplog, away)))
    limit_queues(management, 200)
    eventually(broker.is_connected)
    broker.enqueue(message("taken"))


@pytest.fixture
def user(management: Any) -> Iterator[str]:
    """Make a user of the virtual host with the password ``first``."""
    name = f"user-{uuid4().hex[:12]}"
    management.call("PUT", f"/users/{name}", {"password": "first", "tags": ""})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    management.call("PUT", f"/permissions/{{vhost}}/{name}", everything)
    yield name
    management.call("DELETE", f"/users/{name}")


def test_a_refused_password_is_told_though_it_was_away_already(
    url: str,
    user: str,
    management: Any,
    make_broker: Callable[..., LadderBroker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = urlsplit(url)
    address = f"{user}:first@{parts.hostname}:{parts.port}"
    broker = make_broker(urlunsplit(parts._replace(netloc=address)))
    broker.enqueue(message("before"))
    consumer = broker.consume("timers", prefetch=1, timeout=20)
    eventually(lambda: next(consumer) is not None)
    eventually(lambda: len(management.connections()) == 2)

    changed = {"password": "second", "tags": ""}
    management.call("PUT", f"/users/{user}", changed)
    management.close_connections()
    away = "RabbitMQ is away, trying on"

    def is_told() -> bool:
        next(consumer)
        told = [
            vars(record)["for"] for record in caplog.records
            if record.getMessage() == away
            and "ACCESS_REFUSED" in vars(record)["error"]
        ]
        return sorted(told) == ["consuming timers", "publishing"]

    eventually(is_told)
    consumer.close()
    assert len(reasons(caplog, away)) <= 8

"""The ladder in a real RabbitMQ: on time, complete, on any set-up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import pytest

from apps.broker import ladder
from apps.broker.rabbitmq import LadderBroker
from tests.support.messages import message
from tests.support.rabbitmq import Management
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq


@pytest.mark.quiet
def test_delayed_messages_come_on_time_and_never_early(
    shared_vhost: tuple[str, Management],
    connected: Callable[[str], LadderBroker],
    receive: Callable[..., Any],
    record_property: Callable[[str, object], None],
) -> None:
    # Given a ladder that is there. While it is made, RabbitMQ 4.0 was seen to
    # pass a message by a rung; workers send back what comes early.
    url = shared_vhost[0]
    broker = connected(url)
    received = receive(url)
    due: dict[int, float] = {}
    for key in range(250):
        delay = key * 997 % 2400
        due[key] = time.monotonic() + delay // 10 / 100
        broker.enqueue(message(key), delay=delay)
    eventually(lambda: len(received.keys) == len(due))

    late = sorted(
        at - due[key]
        for key, at in zip(received.keys, received.times, strict=True)
    )
    record_property("late_p50_ms", round(late[len(late) // 2] * 1000, 1))
    record_property("late_p99_ms", round(late[-3] * 1000, 1))
    assert sorted(received.keys) == sorted(due)
    assert late[0] >= 0
    assert late[len(late) // 2] < 0.1


def test_the_whole_ladder_stands_without_any_message(
    broker: Any, management: Any
) -> None:
    rungs = {rung.queue for rung in ladder.rungs()}
    assert broker.depth("timers") == 0
    eventually(lambda: set(management.queues()) == rungs)
    broker.enqueue(message("a"), delay=60_000)
    broker.enqueue(message("b", "timers.overdue"), delay=30_250)
    arguments = {
        name: queue["arguments"]
        for name, queue in management.queues().items()
    }
    assert set(arguments) == rungs | {
        "timers", "timers.XQ", "timers.overdue", "timers.overdue.XQ",
    }
    assert arguments["delay.30s"] == {
        "x-queue-type": "classic",
        "x-message-ttl": 30_000,
        "x-dead-letter-exchange": "delay.hundredths",
    }


def test_each_message_has_its_own_outcome(broker: Any) -> None:
    outcomes = broker.enqueue_many(
        [(message(1), 0), (message(2), 60_001), (message(3), 10)]
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None), ValueError, type(None),
    ]


def test_depth_counts_what_is_ready(broker: Any) -> None:
    assert broker.depth("timers") == 0
    broker.enqueue_many([(message(key), 0) for key in range(7)])
    broker.enqueue(message("delayed"), delay=50_000)
    eventually(lambda: broker.depth("timers") == 7)


def test_a_restricted_user_where_quorum_is_the_default(
    url: str,
    management: Any,
    make_broker: Callable[..., Any],
    receive: Callable[..., Any],
) -> None:
    management.call("DELETE", "/vhosts/{vhost}")
    management.create_vhost(urlsplit(url).username, "quorum")
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_declare("plain", durable=True)
    user = management.vhost
    management.call(
        "PUT", f"/users/{user}", {"password": "p/w", "tags": ""}
    )
    ours = r"(delay\..+|timers(\..+)?)"
    management.call(
        "PUT",
        f"/permissions/{{vhost}}/{user}",
        {
            "configure": f"^{ours}$",
            "write": f"^({ours}|amq\\.default)$",
            "read": f"^{ours}$",
        },
    )
    parts = urlsplit(url)
    netloc = f"{user}:p%2Fw@{parts.hostname}:{parts.port}"
    limited = urlunsplit(parts._replace(netloc=netloc))
    try:
        received = receive(limited, "quorum")
        make_broker(limited, "quorum").enqueue(message("a"), delay=1_110)
        eventually(lambda: received.keys == ["a"])
        expected = {
            "plain": "quorum",
            "timers": "quorum",
            "timers.XQ": "quorum",
            **{rung.queue: "classic" for rung in ladder.rungs()},
        }
        # The rungs that the message does not need may be declared later.
        eventually(lambda: {
            name: queue["type"] for name, queue in management.queues().items()
        } == expected)
    finally:
        management.call("DELETE", f"/users/{user}")


def test_a_queue_with_other_arguments_is_named_and_used_as_it_is(
    url: str,
    make_broker: Callable[..., Any],
    receive: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare("timers", durable=True)
        channel.queue_declare(
            "delay.100ms",
            durable=True,
            arguments={
                "x-queue-type": "classic",
                "x-message-ttl": 30,
                "x-dead-letter-exchange": "delay.target",
            },
        )
    broker = make_broker(url)
    received = receive(url)
    keys = set(range(20))
    confirmed: set[int] = set()

    def publish_rest() -> bool:
        rest = sorted(keys - confirmed)
        outcomes = broker.enqueue_many([(message(k), 100) for k in rest])
        confirmed.update(
            key
            for key, outcome in zip(rest, outcomes, strict=True)
            if outcome is None
        )
        return confirmed == keys

    eventually(publish_rest)
    eventually(lambda: set(received.keys) == keys)
    named = [
        vars(record)["declared"]
        for record in caplog.records
        if hasattr(record, "declared")
    ]
    # The publisher finds both, the consumer one; each says it once.
    assert sorted(named) == ["delay.100ms", "timers", "timers"]

"""Which broker a process gets, and with which middleware."""

from __future__ import annotations

import dramatiq
import pytest
from django.apps import apps

from apps.broker.ladder import HORIZON_MS
from apps.broker.memory import MemoryBroker
from apps.broker.middleware import LeaveUnacknowledged, Settlement
from apps.broker.rabbitmq import LadderBroker


@pytest.fixture(autouse=True)
def same_broker_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)


@pytest.mark.parametrize(
    ("url", "kind"),
    [("", MemoryBroker), ("amqp://u:p@127.0.0.1:1/", LadderBroker)],
)
def test_the_url_decides(
    settings: object, url: str, kind: type[dramatiq.Broker]
) -> None:
    setattr(settings, "RABBITMQ_URL", url)  # noqa: B010
    apps.get_app_config("broker").ready()
    broker = dramatiq.get_broker()
    assert type(broker) is kind
    assert [type(m) for m in broker.middleware] == [Settlement]


def test_actors_expect_to_leave_messages() -> None:
    broker = MemoryBroker()

    @dramatiq.actor(queue_name="timers", broker=broker)
    def fire() -> None: ...

    assert fire.options["throws"] is LeaveUnacknowledged


def test_no_delay_queue_is_known() -> None:
    broker = LadderBroker("amqp://u:p@127.0.0.1:1/")
    broker.declare_queue("timers")
    assert broker.get_declared_queues() == {"timers"}
    assert broker.get_declared_delay_queues() == set()


def test_a_delay_beyond_the_horizon_is_an_error_without_rabbitmq() -> None:
    broker = LadderBroker("amqp://u:p@127.0.0.1:1/")

    @dramatiq.actor(queue_name="timers", broker=broker)
    def fire() -> None: ...

    with pytest.raises(ValueError, match="60000 ms"):
        fire.send_with_options(delay=HORIZON_MS + 1)

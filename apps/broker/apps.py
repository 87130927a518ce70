"""Chooses the process's broker."""

import logging

import dramatiq
from django.apps import AppConfig
from django.conf import settings

from apps.broker.interface import ON_TIME, OVERDUE


class BrokerConfig(AppConfig):
    """Sets Dramatiq's global broker when Django starts."""

    name = "apps.broker"

    def ready(self) -> None:
        """Use RabbitMQ if there is a URL for it, memory otherwise.

        Nothing is connected yet.
        """
        broker = _broker()
        # No actor is known yet. Where the number of queues is limited, these
        # must be declared before the ladder.
        for queue in (ON_TIME, OVERDUE):
            broker.declare_queue(queue)
        dramatiq.set_broker(broker)


def _broker() -> dramatiq.Broker:
    if not settings.RABBITMQ_URL:
        from apps.broker.memory import MemoryBroker

        return MemoryBroker()

    from apps.broker.rabbitmq import LadderBroker

    # pika logs each lost connection in a dozen lines with tracebacks; the
    # broker says it in one.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    return LadderBroker(
        settings.RABBITMQ_URL, queue_type=settings.RABBITMQ_QUEUE_TYPE
    )

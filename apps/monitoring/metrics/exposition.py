"""What is told to Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from apps.core.processes import PerProcess
from apps.monitoring.metrics.catalogue import ALL
from apps.monitoring.metrics.numbers import NUMBERS
from apps.monitoring.metrics.stored import Stored


class Counted(Collector):
    """What the processes of this server have counted."""

    def collect(self) -> Iterator[Metric]:
        """Yield each metric, summed up."""
        shares = NUMBERS.read()
        for metric in ALL:
            yield metric.collect(shares)


def counted() -> CollectorRegistry:
    """Return what a worker or a dispatcher tells."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Counted())
    return registry


@PerProcess
def all_numbers() -> CollectorRegistry:
    """Return what a web process tells: also Postgres's numbers."""
    registry = counted()
    registry.register(Stored())
    return registry

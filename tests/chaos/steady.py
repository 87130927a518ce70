"""That a server's outage is nothing to the processes that go on."""

import statistics

import psutil  # type: ignore[import-untyped]

from tests.chaos.experiment import Experiment
from tests.support.service import Service


class Steady:
    """Asserts that no process of a service was started anew."""

    def __init__(self, service: Service) -> None:
        """Remember the processes that there are."""
        self._service = service
        self._before = self._processes()

    def check(self) -> None:
        """Compare with the processes that there are now."""
        assert self._processes() == self._before, self._service.log()[-3000:]

    def _processes(self) -> set[psutil.Process]:
        """Find all; two are equal when id and time of start are."""
        heads = [psutil.Process(p.pid) for p in self._service.processes]
        return {*heads, *(c for h in heads for c in h.children(True))}


def slow_create(timers: Experiment, since: float, until: float) -> float:
    """Return how long the slowest hundredth of creates took, in seconds.

    Of those that were answered 201, and asked for between the two times.
    """
    took = [
        made.answered - made.asked
        for made in list(timers.created.values())
        if since <= made.asked < until
    ]
    return statistics.quantiles(took, n=100)[-1]

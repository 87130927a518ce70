"""The kinds of metrics: what is counted, at which places, and its names.

A label has one of the values that its metric was made with. So the number of
series is known, whatever callers and receivers send.
"""

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from apps.monitoring.metrics.numbers import NUMBERS, Share

#: Upper bounds of a histogram's buckets, in seconds.
BUCKETS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, float("inf"),
)  # fmt: skip


class _Labelled:
    """A metric with one number, or with one for each value of a label."""

    def __init__(
        self,
        name: str,
        says: str,
        label: str = "",
        values: Sequence[str] = ("",),
    ) -> None:
        """Take the name, the sentence that explains it, and the label."""
        self.name = name
        self.labels = [label] if label else []
        self._says = says
        first = NUMBERS.reserve(f"{name} {values}", len(values))
        self._places = {
            value: first + number for number, value in enumerate(values)
        }

    def _family(
        self,
        family: CounterMetricFamily | GaugeMetricFamily,
        shares: Sequence[Share],
    ) -> Metric:
        for value, place in self._places.items():
            total = sum(share.values[place] for share in shares)
            family.add_metric([value] if self.labels else [], total)
        return family


class Counter(_Labelled):
    """A number that only grows."""

    def add(self, amount: float = 1, *, of: str = "") -> None:
        """Count; `of` is the label's value."""
        NUMBERS.add(self._places[of], amount)

    def knows(self, value: str) -> bool:
        """Tell whether the label may have this value."""
        return value in self._places

    def collect(self, shares: Sequence[Share]) -> Metric:
        """Return the sums over all processes, dead ones included."""
        family = CounterMetricFamily(
            self.name, self._says, labels=self.labels
        )
        return self._family(family, shares)


class Gauge(_Labelled):
    """What is now; the sum over all processes that live."""

    def set(self, value: float, *, of: str = "") -> None:
        """Note this process's part; `of` is the label's value."""
        NUMBERS.set(self._places[of], value)

    def collect(self, shares: Sequence[Share]) -> Metric:
        """Return the sums over the processes that live."""
        family = GaugeMetricFamily(self.name, self._says, labels=self.labels)
        return self._family(
            family, [share for share in shares if share.is_alive]
        )


class Moment:
    """When something last happened, in the process where it is longest ago.

    A process to which it never happened does not count.
    """

    labels: Sequence[str] = ()

    def __init__(self, name: str, says: str) -> None:
        """Take the name, and the sentence that explains it."""
        self.name = name
        self._says = says
        self._place = NUMBERS.reserve(name, 1)

    def set(self, timestamp: float) -> None:
        """Note a time of `time.time()`."""
        NUMBERS.set(self._place, timestamp)

    def collect(self, shares: Sequence[Share]) -> Metric:
        """Return the earliest of the processes' times, if there are any."""
        family = GaugeMetricFamily(self.name, self._says)
        times = [
            share.values[self._place] for share in shares if share.is_alive
        ]
        if happened := [time for time in times if time]:
            family.add_metric([], min(happened))
        return family


class Histogram:
    """How long something takes."""

    labels = ("le",)

    def __init__(self, name: str, says: str) -> None:
        """Take the name, and the sentence that explains it."""
        self.name = name
        self._says = says
        self._first = NUMBERS.reserve(name, len(BUCKETS) + 1)
        self._total = self._first + len(BUCKETS)

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        place = self._first + bisect_left(BUCKETS, seconds)
        NUMBERS.observe(place, self._total, seconds)

    def collect(self, shares: Sequence[Share]) -> Metric:
        """Return the sums over all processes, dead ones included."""
        count = 0.0
        buckets = []
        for number, bound in enumerate(BUCKETS):
            place = self._first + number
            count += sum(share.values[place] for share in shares)
            buckets.append((str(bound).replace("inf", "+Inf"), count))
        total = sum(share.values[self._total] for share in shares)
        return HistogramMetricFamily(
            self.name, self._says, buckets=buckets, sum_value=total
        )

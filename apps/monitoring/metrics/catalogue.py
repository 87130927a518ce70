"""All metrics that processes count. docs/operate.md explains each one.

Names and units are as Prometheus wants them: seconds, `_total` for counters
(https://prometheus.io/docs/practices/naming/).
"""

from collections.abc import Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from apps.monitoring.metrics.kinds import Counter, Gauge, Histogram, Moment
from apps.monitoring.metrics.numbers import Share
from apps.webhooks.results import FailureKind

#: What came of a try for which there is no better word.
OTHER = "other"
POOLS = ("timers", "lists")

CREATED = Counter("timers_created_total", "Timers that were stored.")
ENDED = Counter(
    "timers_ended_total",
    "Timers that have ended, by how.",
    "outcome",
    ("delivered", "failed", "unknown", "missed", "cancelled"),
)
CALLS = Counter(
    "timers_calls_total",
    "Tries to call, by the answer's status or the kind of failure.",
    "result",
    (
        "2xx", "3xx", "4xx", "5xx", *(kind.value for kind in FailureKind),
        "invalid", "internal", "worker_died", OTHER,
    ),
)  # fmt: skip
LATENESS = Histogram(
    "timers_call_lateness_seconds",
    "From when a try was due until its request had left.",
)
DURATION = Histogram(
    "timers_call_duration_seconds",
    "From before the name was resolved until the answer had come.",
)
RETRIES = Counter(
    "timers_retries_total", "Tries that failed and are repeated later."
)
DEFERRALS = Counter(
    "timers_deferrals_total",
    "Calls put off because the host is busy or hangs.",
)
CLAIMS_LOST = Counter(
    "timers_claims_lost_total",
    "Claims that were taken over before their worker had recorded the call.",
)
TAKEN_OVER = Counter(
    "timers_taken_over_total",
    "Claims of dead workers, by what became of the timer.",
    "became",
    ("open", "unknown", "failed", "answered"),
)
PUBLISH_FAILURES = Counter(
    "timers_publish_failures_total",
    "Timers that RabbitMQ did not take; the dispatcher publishes them.",
)
PASSES = Counter(
    "timers_passes_total",
    "Passes of a dispatcher, or of a worker without RabbitMQ.",
    "result",
    ("good", "failed"),
)
LAST_GOOD_PASS = Moment(
    "timers_last_good_pass_timestamp_seconds",
    "When the last pass did all of its work.",
)
CIRCUITS_OPEN = Gauge(
    "timers_circuits_open", "Hosts that answered none of the last calls."
)
POOL_CONNECTIONS = Gauge(
    "timers_pool_connections",
    "Connections to Postgres that a pool has.",
    "pool",
    POOLS,
)
POOL_CONNECTIONS_USED = Gauge(
    "timers_pool_connections_used",
    "Connections to Postgres that are in use.",
    "pool",
    POOLS,
)
POOL_WAITING = Gauge(
    "timers_pool_waiting",
    "Threads that wait for a connection to Postgres.",
    "pool",
    POOLS,
)
POOL_WAITS = Counter(
    "timers_pool_waits_total",
    "How often a thread had to wait for a connection to Postgres.",
    "pool",
    POOLS,
)
POOL_WAIT = Counter(
    "timers_pool_wait_seconds_total",
    "How long threads have waited for connections to Postgres.",
    "pool",
    POOLS,
)


class Processes:
    """How many processes the other numbers are of."""

    name = "timers_processes"
    labels: Sequence[str] = ()

    def collect(self, shares: Sequence[Share]) -> Metric:
        """Return how many processes live."""
        return GaugeMetricFamily(
            self.name,
            "Processes of this server that live.",
            sum(share.is_alive for share in shares),
        )


ALL = (
    CREATED, ENDED, CALLS, LATENESS, DURATION, RETRIES, DEFERRALS,
    CLAIMS_LOST, TAKEN_OVER, PUBLISH_FAILURES, PASSES, LAST_GOOD_PASS,
    CIRCUITS_OPEN, POOL_CONNECTIONS, POOL_CONNECTIONS_USED, POOL_WAITING,
    POOL_WAITS, POOL_WAIT, Processes(),
)  # fmt: skip

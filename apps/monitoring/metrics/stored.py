"""Numbers that only Postgres has, for /metrics.

They cost the same however many timers there are. Each kind is counted up to a
bound, in the order of an index. Beyond the bound, the number of those that
sleep is an estimate. Ages are asked for first: they are quick, and alerts need
them most when the counts take long.
"""

import threading
import time
from collections.abc import Iterator

import psycopg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from apps.core.database import list_pool
from apps.core.outages import Outage, describe
from apps.core.rows import named

#: Timers that are counted one by one, at most.
MOST = 10_000
#: How long the numbers are told again, in seconds; and at least this many
#: times as long as Postgres took for them.
KEPT, _REST = 10.0, 20
#: How long to wait for a connection, in seconds.
_PATIENCE = 1.0

_UNREAD = Outage(
    "numbers for /metrics can't be read from Postgres; it has the others",
    "numbers for /metrics are read from Postgres again",
)

_WAITING = "fired_at IS NULL AND outcome IS NULL AND queued_at IS"
_OVERDUE = "next_at < now() - interval '1 s'"
_NEAR = (
    "next_at >= now() - interval '1 s' AND next_at < now() + interval '60 s'"
)
_FAR = "next_at >= now() + interval '60 s'"


def _count(queued: str, span: str) -> str:
    return f"""
    (SELECT count(*) FROM (
        SELECT FROM timer WHERE {_WAITING} {queued} AND {span}
        ORDER BY next_at LIMIT %(most)s
     ) AS found)"""


def _oldest(queued: str) -> str:
    # Python has no moment for '-infinity'.
    return f"""
    (SELECT greatest(next_at, 'epoch') FROM timer
     WHERE {_WAITING} {queued} AND {_OVERDUE}
     ORDER BY next_at LIMIT 1)"""


# Two halves, since each of the two partial indexes serves only one.
AGES = f"""
SELECT coalesce(extract(epoch FROM now() - least({_oldest("NULL")},
                                                 {_oldest("NOT NULL")})), 0)
           AS oldest_overdue,
       (SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND backend_type = 'client backend') AS oldest_transaction,
       (SELECT greatest(age(datfrozenxid), mxid_age(datminmxid))
        FROM pg_database WHERE datname = current_database()) AS oldest_row
"""

# The index had `reltuples` entries on `relpages` pages when it was last
# looked at.
COUNTS = f"""
WITH counted AS MATERIALIZED (
    SELECT {_count("NULL", _FAR)} AS far
),
estimated AS (
    SELECT reltuples * pg_relation_size(oid) / nullif(relpages, 0)
           / current_setting('block_size')::integer AS far
    FROM pg_class WHERE oid = to_regclass('timer_unqueued')
)
SELECT CASE WHEN counted.far < %(most)s THEN counted.far
            ELSE greatest(counted.far, (SELECT far FROM estimated))
       END AS sleeping,
       {_count("NULL", _NEAR)} + {_count("NOT NULL", _NEAR)} AS near,
       {_count("NULL", _OVERDUE)} + {_count("NOT NULL", _OVERDUE)} AS overdue
FROM counted
"""

_NAMES = {
    "sleeping": (
        "timers_sleeping",
        f"Timers due in over a minute; an estimate from {MOST} on.",
    ),
    "near": (
        "timers_near",
        f"Timers due within a minute; each queue counted up to {MOST}.",
    ),
    "overdue": (
        "timers_overdue",
        "Timers that wait though they were due over a second ago; each queue"
        f" counted up to {MOST}.",
    ),
    "oldest_overdue": (
        "timers_oldest_overdue_seconds",
        "How long ago the most overdue timer was due; 0 if there is none.",
    ),
    "oldest_transaction": (
        "timers_postgres_oldest_transaction_seconds",
        "Age of the oldest open transaction of this database; 0 if none.",
    ),
    "oldest_row": (
        "timers_postgres_oldest_row_transactions",
        "Transactions since the oldest row that is not frozen; they end at 2.1"
        " billion.",
    ),
}
#: One more gauge: whether the ages are known.
_ANSWERS = (
    "timers_postgres_answers",
    "1 if Postgres has answered the question for these ages, else 0.",
)


def read(query: str) -> dict[str, float]:
    """Ask Postgres; raise psycopg.Error."""
    with list_pool().connection(_PATIENCE) as connection:
        (row,) = named(connection.execute(query, {"most": MOST}))
    return {name: float(value) for name, value in row.items()}


class Stored(Collector):
    """Postgres's numbers, asked for every ten seconds at most.

    While they can't be read, /metrics does not have them.
    """

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._numbers: dict[str, float] = {}
        self._ask_at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers that are known."""
        # One asks; others don't wait for that.
        if self._asking.acquire(blocking=False):
            try:
                began = time.monotonic()
                if began >= self._ask_at:
                    self._ask()
                    took = time.monotonic() - began
                    self._ask_at = began + max(KEPT, _REST * took)
            finally:
                self._asking.release()
        numbers = self._numbers
        for key, value in numbers.items():
            yield GaugeMetricFamily(*_NAMES[key], value)
        answers = "oldest_overdue" in numbers
        yield GaugeMetricFamily(*_ANSWERS, int(answers))

    def _ask(self) -> None:
        found: dict[str, float] = {}
        try:
            found |= read(AGES)
            found |= read(COUNTS)
        except psycopg.Error as error:
            _UNREAD.failed(error=describe(error))
        else:
            _UNREAD.worked()
        self._numbers = found

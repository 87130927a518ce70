"""Many timers at once: stored, awaited, and counted at their receiver."""

import statistics
from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID

import pika
import uuid_utils.compat
from django.db import connection
from pika.exceptions import ChannelClosedByBroker

from apps.timers.storage import creating
from apps.timers.storage.records import Definition, NewTimer
from tests.support.accounts import OWNER
from tests.support.receiver import Receiver
from tests.support.waiting import eventually


def store_timers(
    url: str, delays: Sequence[float], account: int = OWNER
) -> set[str]:
    """Store timers in one statement, unqueued; delays are in seconds.

    Those with a negative delay are overdue at once.
    """
    timers = [
        NewTimer(
            uuid_utils.compat.uuid7(),
            account,
            Definition(url),
            timedelta(seconds=delay),
            queued=False,
        )
        for delay in delays
    ]
    creating.create(timers)
    return {str(timer.id) for timer in timers}


def execute(query: str, *values: Any) -> int:
    """Run a statement on the test's database; return how many rows."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return int(cursor.rowcount)


def value_of(query: str, *values: Any) -> Any:
    """Return the first column of a query's first row."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        row = cursor.fetchone()
    assert row is not None
    return row[0]


def unended(timers: Collection[str]) -> int:
    """Return how many of the timers have no outcome yet."""
    return int(
        value_of(
            "SELECT count(*) FROM timer"
            " WHERE id = ANY(%s) AND outcome IS NULL",
            [UUID(timer) for timer in timers],
        )
    )


def each_called_once(
    receiver: Receiver, timers: Collection[str], *, within: float
) -> None:
    """Wait until all have ended; assert one call each, none of them early.

    No worker can claim a timer that has an outcome, so one that was called
    once by then is called once for ever.
    """
    eventually(lambda: not unended(timers), within=within, every=0.1)
    counted(receiver, timers)


def counted(receiver: Receiver, timers: Collection[str]) -> None:
    """Assert one call of each timer, none of them early."""
    counts = receiver.counts()
    wrong = {
        timer: counts[timer] for timer in timers if counts[timer] != 1
    }
    assert not wrong, f"{len(wrong)} of {len(timers)}: {wrong}"
    assert late_ms(receiver, timers)[0] >= 0


def late_ms(receiver: Receiver, timers: Collection[str]) -> list[float]:
    """Return how late the calls arrived, in ms, sorted."""
    return sorted(
        1000 * call.late for call in receiver.calls if call.timer in timers
    )


def show_lateness(
    title: str, receiver: Receiver, timers: Collection[str]
) -> None:
    """Print lateness, for whoever measures (`pytest -s`)."""
    late = late_ms(receiver, timers)
    parts = statistics.quantiles(late, n=100)
    print(
        f"{title}: {len(late)} calls, late by {parts[49]:.1f} ms (p50),"
        f" {parts[98]:.1f} ms (p99), {late[-1]:.1f} ms (most)"
    )


def depth(url: str, queue: str) -> int:
    """Return how many messages are ready in a queue, 0 if it isn't there."""
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as link:
        try:
            found = link.channel().queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return 0
        return int(found.method.message_count)


def publish(url: str, queue: str, *bodies: bytes) -> None:
    """Publish messages by hand, straight to a queue."""
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as link:
        channel = link.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, mandatory=True)

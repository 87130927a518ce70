"""The textbook version: a row, then Dramatiq's own delay, in the request.

`python -m dramatiq` runs this module's actor.
"""

import os
from datetime import UTC, datetime
from uuid import UUID

import django
import dramatiq
from django.conf import settings
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from tests.load.bench.rivals.calls import call, due_in, new_id

os.environ.setdefault(
    "DJANGO_SETTINGS_MODULE", "tests.load.bench.rivals.settings"
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import close_old_connections  # noqa: E402

from tests.load.bench.rivals.models import Timer  # noqa: E402

broker = RabbitmqBroker(url=settings.RABBITMQ_URL, confirm_delivery=True)
dramatiq.set_broker(broker)


def prepare() -> None:
    """Make the table."""
    call_command("migrate", run_syncdb=True, verbosity=0)


def serve() -> None:
    """Begin nothing."""


def fire(timer_id: str) -> None:
    """Call a timer's URL, unless that was done."""
    now = datetime.now(UTC)
    if Timer.objects.filter(id=timer_id, fired_at=None).update(fired_at=now):
        timer = Timer.objects.get(id=timer_id)
        status = call(timer_id, timer.due_at.timestamp(), timer.url)
        Timer.objects.filter(id=timer_id).update(status_code=status)
    close_old_connections()


actor = dramatiq.actor(fire)


def create(seconds: int, url: str) -> str:
    """Store a timer and send its message, confirmed."""
    timer = _timer(seconds, url)
    timer.save(force_insert=True)
    _send(timer, seconds)
    return str(timer.id)


def _timer(seconds: int, url: str) -> Timer:
    due = datetime.fromtimestamp(due_in(seconds), UTC)
    return Timer(id=UUID(new_id()), url=url, due_at=due)


def _send(timer: Timer, seconds: int) -> None:
    delay = max(0, seconds * 1000) or None
    actor.send_with_options(args=(str(timer.id),), delay=delay)


def seed(count: int, seconds: int, url: str) -> None:
    """Set many timers; a negative number of seconds is past."""
    timers = [_timer(seconds, url) for _ in range(count)]
    Timer.objects.bulk_create(timers, batch_size=1000)
    for timer in timers:
        _send(timer, seconds)

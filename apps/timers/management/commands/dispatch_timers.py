"""`manage.py dispatch_timers`: the dispatcher's loop."""

import logging
import signal
import threading
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.core.database import UNAVAILABLE
from apps.core.outages import POSTGRES, TROUBLES, describe
from apps.core.processes import end_with_parent, stop_once
from apps.monitoring.heartbeat import Health, Sign, keep_beating
from apps.monitoring.metrics import process as metrics
from apps.monitoring.processes import Notices, Work
from apps.monitoring.rollups.process import RollUps
from apps.timers import counting
from apps.timers.scheduling import dispatcher
from apps.timers.scheduling.retention import Retention
from apps.timers.scheduling.sharing import PAUSE
from apps.timers.scheduling.steps import Turn
from apps.timers.scheduling.wakeups import Wakeups

logger = logging.getLogger(__name__)

_INTERVAL = 0.5  # seconds between passes, unless there is news


@dataclass
class _Latest:
    """What the latest pass has seen."""

    backlog: int | None = None


class Command(BaseCommand):
    """Run passes until told to stop."""

    help = (
        "Move timers to RabbitMQ as they come near, requeue what was lost,"
        " take over from dead workers, remove what was kept long enough. Any"
        " number may run side by side."
    )
    # `migrate`, which runs before, checks all that web uses.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Loop around `dispatcher.run_once` until TERM or Ctrl-C."""
        if not settings.RABBITMQ_URL:
            raise CommandError(
                "RABBITMQ_URL is not set: without RabbitMQ the worker feeds"
                " itself, and there is nothing to dispatch."
            )
        stop_once()
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        end_with_parent()
        _run(stopping)


def _run(stopping: threading.Event) -> None:
    wakeups = Wakeups(stopping)
    health = Health()

    def look() -> Sign:
        return health.sign(TROUBLES.recent())

    metrics.start("dispatcher")
    keep_beating("dispatcher", stopping, look)
    latest = _Latest()
    notices = Notices("dispatcher", look, lambda: Work(latest.backlog))
    retention = Retention()
    rollups = RollUps()
    logger.info("dispatcher started")
    while not stopping.is_set():
        wakeups.wait(_pass(stopping, health, latest))
    wakeups.close()
    retention.close()
    rollups.close()
    notices.close()
    logger.info("dispatcher stopped")


def _pass(
    stopping: threading.Event, health: Health, latest: _Latest
) -> float:
    """Do one pass, and raise nothing; return the seconds until the next."""
    try:
        done = dispatcher.run_once(Turn(stopping).is_over)
        latest.backlog = done.backlog
        POSTGRES.worked()
        _log(done)
        TROUBLES.worked("the pass")
    except UNAVAILABLE as error:
        POSTGRES.failed(error=str(error).strip())
        health.bad(f"Postgres can't be reached: {describe(error)}")
        counting.passed(is_good=False)
        return _INTERVAL
    except Exception as error:
        TROUBLES.note("the pass", "a pass failed; trying again", error)
        health.bad()
        counting.passed(is_good=False)
        return _INTERVAL
    counting.passed(is_good=not done.troubles)
    if done.troubles:
        health.bad(*done.troubles)
        return _INTERVAL
    health.good()
    if done.unfinished:
        return 0.0
    return PAUSE if done.shares else _INTERVAL


def _log(done: dispatcher.Pass) -> None:
    if done.queued:
        logger.info(
            "timers queued",
            extra={
                "near": done.near,
                "overdue": done.overdue,
                "lost": done.lost,
            },
        )

"""`manage.py dispatch_timers`: the dispatcher's loop."""

import logging
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.monitoring.heartbeat import beat
from apps.timers import dispatcher
from apps.timers.database import UNAVAILABLE
from apps.timers.outages import POSTGRES
from apps.timers.wakeups import Wakeups
from config.processes import end_with_parent, stop_once

logger = logging.getLogger(__name__)

_INTERVAL = 0.5  # seconds between passes, unless there is news


class Command(BaseCommand):
    """Run passes until told to stop."""

    help = (
        "Move timers to RabbitMQ as they come near, requeue what was lost,"
        " take over from dead workers. Any number may run side by side."
    )

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
    logger.info("dispatcher started")
    while not stopping.is_set():
        try:
            _log(dispatcher.run_once())
            POSTGRES.worked()
        except UNAVAILABLE as error:
            POSTGRES.failed(error=str(error).strip())
        except Exception:  # the loop must outlive any single pass
            logger.exception("a pass failed; trying again")
        beat("dispatcher")
        wakeups.wait(_INTERVAL)
    wakeups.close()
    logger.info("dispatcher stopped")


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

"""What a worker process does when it starts, and when it stops."""

import logging
import threading
import time
from typing import Any, cast

import dramatiq
from django.conf import settings
from dramatiq.broker import MessageProxy

from apps.broker.interface import ON_TIME, OVERDUE, TimerBroker
from apps.broker.memory import MemoryBroker
from apps.core.database import close_pool
from apps.core.outages import TROUBLES
from apps.core.processes import end_with_parent
from apps.monitoring.heartbeat import Sign, keep_beating
from apps.monitoring.metrics import process as metrics
from apps.monitoring.metrics.catalogue import CIRCUITS_OPEN
from apps.monitoring.processes import Notices, Work
from apps.monitoring.rollups.process import RollUps
from apps.timers.firing import call, claims
from apps.timers.firing.progress import Consuming, Progress
from apps.timers.scheduling.feeder import Feeder
from apps.timers.scheduling.retention import Retention

logger = logging.getLogger(__name__)

#: How long calls under way may take to end, in seconds: a call, and the write
#: of what came of it.
_DRAIN = 20.0


class WorkerLifecycle(dramatiq.Middleware):
    """In standalone it also does what dispatchers do; drains at the end."""

    def __init__(self) -> None:
        self._memory: MemoryBroker | None = None
        self._feeder: Feeder | None = None
        self._retention: Retention | None = None
        self._rollups: RollUps | None = None
        self._progress: Progress | None = None
        self._consuming: Consuming | None = None
        self._notices: Notices | None = None
        self._stop_at = 0.0
        self._stopping = threading.Event()

    def after_worker_boot(
        self, broker: dramatiq.Broker, worker: dramatiq.Worker
    ) -> None:
        """Begin to show how the worker is.

        In standalone, also begin what dispatchers do elsewhere.
        """
        end_with_parent()
        self._progress = Progress(worker)
        self._consuming = Consuming(
            cast(TimerBroker, broker), broker.get_declared_queues()
        )
        if isinstance(broker, MemoryBroker):
            self._memory = broker
            self._feeder = Feeder(broker)
            self._retention = Retention()
            self._rollups = RollUps()
        metrics.start("worker", _sample_circuits)
        keep_beating("worker", self._stopping, self.sign)
        self._notices = Notices("worker", self.sign, self._work)
        logger.info("worker started", extra={"threads": worker.worker_threads})

    def before_process_message(
        self, broker: dramatiq.Broker, message: MessageProxy
    ) -> None:
        """Note that a thread makes progress."""
        if self._progress is not None:
            self._progress.moved()

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Note that a thread makes progress."""
        if self._progress is not None:
            self._progress.moved()

    def sign(self) -> Sign:
        """Return how the worker is: threads, consumers, feeder, all else.

        A worker that stops is well: others do what it leaves undone.
        """
        if claims.stopping.is_set():
            return Sign()
        parts = (self._progress, self._consuming, self._feeder)
        signs = [part.sign() for part in parts if part]
        found = {sign.trouble for sign in signs if sign.trouble}
        return Sign(
            max((sign.age for sign in signs), default=0.0),
            "; ".join(sorted({*found, *TROUBLES.recent()})) or None,
        )

    def _work(self) -> Work:
        """Return what the threads do, for the pages."""
        backlog = self._progress.backlog() if self._progress else 0
        if self._memory is not None:
            backlog += sum(map(self._memory.depth, (ON_TIME, OVERDUE)))
        destinations = call.destinations()
        return Work(
            backlog,
            settings.WORKER_THREADS,
            destinations.busy(),
            destinations.hanging(),
        )

    def before_worker_shutdown(
        self, broker: dramatiq.Broker, worker: dramatiq.Worker
    ) -> None:
        """Take nothing new; calls under way end and are recorded."""
        self._stop_at = time.monotonic() + _DRAIN
        if self._feeder is not None:
            self._feeder.close()
        if self._retention is not None:
            self._retention.close()
        if self._rollups is not None:
            self._rollups.close()
        claims.stopping.set()

    def after_worker_shutdown(
        self, broker: dramatiq.Broker, worker: dramatiq.Worker
    ) -> None:
        """Wait for the calls under way; write what is left to write.

        Dramatiq's own wait may have ended too early. For each thread, it
        subtracts the whole time since the wait began from the time-out. With
        64 threads, a third of a second uses up 20 s.
        """
        for thread in worker.workers:
            thread.join(max(0.0, self._stop_at - time.monotonic()))
        claims.close_mark_writer()
        if self._notices is not None:
            self._notices.close()
        close_pool()
        self._stopping.set()
        logger.info("worker stopped")


def _sample_circuits() -> None:
    CIRCUITS_OPEN.set(call.destinations().count_open())

"""Retention: what was kept long enough is removed, a little at a time."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

from apps.accounts import log
from apps.core.outages import TROUBLES
from apps.core.reaching import is_outage
from apps.timers.models import Outcome
from apps.timers.storage import retention

logger = logging.getLogger(__name__)

#: The pause before a round, and before one that follows on a failure. In
#: seconds.
_INTERVAL = 60.0
_AGAIN = 10.0
#: The pause after a batch is this many times as long as the batch. So a
#: process keeps at most a tenth of one of Postgres's cores busy.
_REST = 9

#: The outcomes that RETENTION_FAILED_DAYS is for.
_FAILED = (Outcome.FAILED, Outcome.UNKNOWN)
_SENTENCE = "what was kept long enough can't be removed; trying again"


@dataclass
class Round:
    """What one round did."""

    #: How many timers it removed.
    removed: int = 0
    failed: bool = False


class Retention:
    """A thread that removes what was kept long enough.

    Any number may run, in any processes: each skips what another one removes.
    A batch is one transaction, so that a kill leaves nothing half done.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="retention", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the batch that is under way."""
        self._stopping.set()
        self._thread.join(2)

    def _run(self) -> None:
        pause = _INTERVAL
        while not self._stopping.wait(pause):
            done = run_once(self._stopping.wait)
            if done.removed:
                logger.info("timers removed", extra={"timers": done.removed})
            pause = _AGAIN if done.failed else _INTERVAL


def run_once(rest: Callable[[float], bool]) -> Round:
    """Remove all that was kept long enough, batch by batch.

    After each batch, `rest` waits for some seconds, and tells whether to stop.
    If something fails, the rest of the round is done all the same.
    """
    done = Round()
    for name, batches in _work():
        try:
            is_over = _run_batches(batches, rest, done)
        except Exception as error:
            done.failed = True
            if is_outage(error):  # others report that
                break
            TROUBLES.note(name, _SENTENCE, error)
            continue
        TROUBLES.worked(name)
        if is_over:
            break
    return done


def _run_batches(
    batches: Iterator[int], rest: Callable[[float], bool], done: Round
) -> bool:
    """Do each batch and rest; tell whether to stop."""
    began = time.monotonic()
    for removed in batches:
        done.removed += removed
        if rest((time.monotonic() - began) * _REST):
            return True
        began = time.monotonic()
    return False


def _work() -> Iterator[tuple[str, Iterator[int]]]:
    """Return what a round does: names, and batches to be done."""
    for table in retention.FORGET:
        yield f"removing old rows of {table}", retention.forget(table)
    yield "removing old entries of the log", log.forget()
    for outcome in Outcome:
        days = (
            settings.RETENTION_FAILED_DAYS if outcome in _FAILED
            else settings.RETENTION_DAYS
        )
        if days:
            yield (
                f"removing what was {outcome.value} long ago",
                retention.remove(outcome, timedelta(days=days)),
            )

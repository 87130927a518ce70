"""What can be done with many timers in one request."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from apps.core.outages import POSTGRES
from apps.timers.changes import RequestKeyReused
from apps.timers.scheduling.publishing import publisher
from apps.timers.services import reaching_postgres
from apps.timers.storage import bulk
from apps.timers.storage.bulk import Answer, RequestChunk
from apps.timers.storage.records import NamedTimer

logger = logging.getLogger(__name__)


def create_chunk(
    timers: Sequence[NamedTimer],
    chunk: RequestChunk | None,
    render: Callable[[Sequence[Answer]], bytes],
) -> bytes:
    """Store a chunk of timers in one commit; return its rendered answers.

    A chunk that was stored before has the same answers again. Raises
    RequestKeyReused or StoreUnavailable.
    """
    with reaching_postgres():
        if chunk is not None and (found := _earlier(chunk)) is not None:
            return found
        if not publisher().has_room(len(timers)):
            # The dispatcher publishes them.
            timers = [_unqueued(timer) for timer in timers]
        try:
            text, due = bulk.create(timers, chunk, render)
        except bulk.StoredMeanwhile:
            assert chunk is not None
            found = _earlier(chunk)
            assert found is not None
            return found
    POSTGRES.worked()
    publisher().submit_all(due)
    logger.debug("timers set", extra={"timers": len(timers)})
    return text


def _earlier(chunk: RequestChunk) -> bytes | None:
    found = bulk.earlier(chunk)
    if found is None:
        return None
    fingerprint, answers = found
    if fingerprint != chunk.fingerprint:
        raise RequestKeyReused
    return answers


def _unqueued(timer: NamedTimer) -> NamedTimer:
    return replace(timer, timer=replace(timer.timer, queued=False))

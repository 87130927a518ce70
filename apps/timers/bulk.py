"""What can be done with many timers in one request."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from apps.accounts.authors import Author
from apps.accounts.log import LoggedChange
from apps.core.reaching import reaching_postgres
from apps.monitoring.metrics.catalogue import CREATED, ENDED
from apps.timers.changes import RequestKeyReused
from apps.timers.models import Outcome
from apps.timers.scheduling.publishing import publish_later, takes_many
from apps.timers.services import is_limited
from apps.timers.storage import bulk, changing, many
from apps.timers.storage.bulk import Answer, RequestChunk
from apps.timers.storage.records import DueMessage, NamedTimer

logger = logging.getLogger(__name__)


def create_chunk(
    timers: Sequence[NamedTimer],
    chunk: RequestChunk | None,
    render: Callable[[Sequence[Answer]], bytes],
) -> bytes:
    """Store a chunk of timers in one commit; return its rendered answers.

    A chunk that was stored before has the same answers again. Raises
    RequestKeyReused or PostgresAway.
    """
    stored = 0

    def counted(answers: Sequence[Answer]) -> bytes:
        nonlocal stored
        stored = sum(isinstance(answer, datetime) for answer in answers)
        return render(answers)

    with reaching_postgres():
        if chunk is not None and (found := _earlier(chunk)) is not None:
            return found
        timers = _queued(timers)
        try:
            text, due = bulk.create(
                timers, chunk, counted,
                limited=bool(timers) and is_limited(timers[0].timer.account),
            )
        except bulk.StoredMeanwhile:
            assert chunk is not None
            found = _earlier(chunk)
            assert found is not None
            return found
    CREATED.add(stored)
    if due:
        publish_later(*due)
    logger.debug("timers set", extra={"timers": len(timers)})
    return text


def cancel(by: Author, timer_ids: Sequence[UUID], found_by: str) -> set[UUID]:
    """Cancel waiting timers of the author's account; return which were.

    `found_by` is what they were found by, for the log.

    These are never called from now on. Those that were cancelled before are
    not among them. Raises PostgresAway.
    """
    with reaching_postgres():
        cancelled = changing.cancel_many(
            by.account, timer_ids,
            LoggedChange(by, "cancel", f"timers by {found_by}"),
        )
    ENDED.add(len(cancelled), of=Outcome.CANCELLED)
    logger.info("timers cancelled", extra={"timers": len(cancelled)})
    return cancelled


def fire(by: Author, timer_ids: Sequence[UUID], found_by: str) -> set[UUID]:
    """Fire waiting timers of the author's account now; return which.

    `found_by` is what they were found by, for the log. Raises
    PostgresAway.
    """
    logged = LoggedChange(by, "fire", f"timers by {found_by}")
    with reaching_postgres():
        fired = many.fire(by.account, timer_ids, logged)
    news = [
        DueMessage(each.timer.id, each.publish_at)
        for each in fired if each.publish_at is not None
    ]
    if news:
        publish_later(*news)
    logger.info("timers fired", extra={"timers": len(fired)})
    return {each.timer.id for each in fired}


def move(
    by: Author, timer_ids: Sequence[UUID], delay: timedelta, found_by: str
) -> set[UUID]:
    """Move waiting timers of the author's account to a time; return which.

    `found_by` is what they were found by, for the log. Raises
    PostgresAway.
    """
    logged = LoggedChange(by, "move", f"timers by {found_by}")
    with reaching_postgres():
        moved = many.move(by.account, timer_ids, delay, logged)
    logger.info("timers moved", extra={"timers": len(moved)})
    return moved


def standing(account: int, timer_ids: Sequence[UUID]) -> Counter[str]:
    """Count an account's timers by how they stand, as `many.STANDING` says.

    Those that are not there are "gone". Raises PostgresAway.
    """
    with reaching_postgres():
        found = many.standing(account, timer_ids)
    if gone := len(timer_ids) - found.total():
        found["gone"] = gone
    return found


def _earlier(chunk: RequestChunk) -> bytes | None:
    found = bulk.earlier(chunk)
    if found is None:
        return None
    fingerprint, answers = found
    if fingerprint != chunk.fingerprint:
        raise RequestKeyReused
    return answers


def _queued(timers: Sequence[NamedTimer]) -> Sequence[NamedTimer]:
    """Leave near timers to the dispatcher if others would wait for them."""
    near = sum(timer.timer.queued for timer in timers)
    if not near or takes_many(near):
        return timers
    return [
        replace(timer, timer=replace(timer.timer, queued=False))
        for timer in timers
    ]

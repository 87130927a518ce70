"""What can be done with a timer from outside."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import uuid_utils.compat
from django.conf import settings

from apps.accounts.authors import Author
from apps.accounts.limits import NONE, limits_of, remembered
from apps.accounts.log import LoggedChange
from apps.core.batching import GroupCommit
from apps.core.reaching import (
    list_connection,
    reaching_postgres,
    reading_list,
)
from apps.monitoring.metrics.catalogue import CREATED, ENDED
from apps.timers.models import GAVE_UP, Outcome
from apps.timers.scheduling.publishing import publish_later
from apps.timers.storage import (
    changing,
    creating,
    finding,
    limiting,
    looking,
    queueing,
    replaying,
)
from apps.timers.storage.limiting import LimitReached, LimitsLeft, Refused
from apps.timers.storage.records import (
    Attempt,
    Definition,
    DueMessage,
    NewTimer,
    StoredTimer,
    TimerFilter,
)

logger = logging.getLogger(__name__)

#: How long a request waits for Postgres before it is answered 503.
_PATIENCE = 3.0


_BAD = (psycopg.DataError, psycopg.IntegrityError)
_creates: GroupCommit[NewTimer, float] = GroupCommit(
    creating.create, singly=_BAD
)
#: Groups of these wait for other processes' groups. So they have no timers of
#: accounts without limits.
_limited_creates: GroupCommit[NewTimer, float | Refused] = GroupCommit(
    limiting.create, singly=_BAD
)


#: The versions of a timer that a caller has read; None: any.
Versions = frozenset[int] | None


def new_timer(
    account: int,
    definition: Definition,
    delay: timedelta,
    due_at: datetime | None = None,
) -> NewTimer:
    """Return a timer of an account, with an id, to be stored.

    `delay` is an estimate if there is a `due_at`.
    """
    return NewTimer(
        uuid_utils.compat.uuid7(),
        account,
        definition,
        delay,
        queued=bool(settings.RABBITMQ_URL) and delay <= queueing.HORIZON,
        due_at=due_at,
    )


def create_timer(timer: NewTimer) -> UUID:
    """Store a timer and return its id; once returned, it is durable.

    With RabbitMQ, a near timer is handed to the publisher afterwards; any
    other waits for the dispatcher, or in standalone for the worker's
    feeder. Raises LimitReached or PostgresAway.
    """
    due: float | Refused
    with reaching_postgres():
        if is_limited(timer.account):
            due = _limited_creates.submit(timer, timeout=_PATIENCE)
        else:
            due = _creates.submit(timer, timeout=_PATIENCE)
    if isinstance(due, Refused):
        raise LimitReached(due)
    CREATED.add()
    logger.debug(
        "timer set",
        extra={
            "timer": timer.id, "seconds": int(timer.delay.total_seconds()),
        },
    )
    if timer.queued:
        publish_later(DueMessage(timer.id, due))
    return timer.id


def is_limited(account: int) -> bool:
    """Tell whether an account may have limits.

    Raises `database.UNAVAILABLE` or TimeoutError.
    """
    return limits_of(account) is not NONE


class BodyTooLong(Exception):
    """The request is too long for its account; `args` has the limit."""


def get_limits(account: int) -> LimitsLeft:
    """Return an account's limits, and what is left of them.

    Raises PostgresAway.
    """
    with reaching_postgres():
        return limiting.look(account)


def check_body(account: int, size: int) -> None:
    """Raise BodyTooLong if a request has more bytes than the account may send.

    Raises PostgresAway.
    """
    limits = remembered(account)
    if limits is None:
        with reaching_postgres():
            limits = limits_of(account)
    if limits.body_bytes is not None and size > limits.body_bytes:
        raise BodyTooLong(limits.body_bytes)


def get_timer(account: int, timer_id: UUID) -> StoredTimer | None:
    """Return the timer, None if the account has none such.

    Raises PostgresAway.
    """
    with reaching_postgres():
        return looking.get(account, timer_id)


class AlreadyFired(Exception):
    """The timer was claimed, or has ended: it can't be cancelled."""


class WrongVersion(Exception):
    """The timer was changed since the caller read it."""


def cancel_timer(
    account: int, timer_id: UUID, versions: Versions = None
) -> bool:
    """Cancel a waiting timer: from now on no node calls its URL.

    False if the account has none such. Cancelling once more is fine. Raises
    AlreadyFired, WrongVersion, RowUnwritable, or PostgresAway.
    """
    with reaching_postgres():
        version = wanted_version(account, timer_id, versions)
        if changing.cancel(account, timer_id, version):
            ENDED.add(of=Outcome.CANCELLED)
            logger.info("timer cancelled", extra={"timer": timer_id})
            return True
        timer = looking.get(account, timer_id)
    if timer is None or timer.outcome == Outcome.CANCELLED:
        return timer is not None
    if timer.waits and version is not None and timer.version != version:
        raise WrongVersion
    raise AlreadyFired


def wanted_version(
    account: int, timer_id: UUID, versions: Versions
) -> int | None:
    """Return the version that a timer must have, None if any will do.

    Raises WrongVersion if it has none of those that the caller has read.
    """
    if versions is None or len(versions) == 1:
        return next(iter(versions), None) if versions else None
    timer = looking.get(account, timer_id)
    if timer is None:
        return None
    if timer.version in versions:
        return timer.version
    raise WrongVersion


def get_attempts(account: int, timer_id: UUID) -> list[Attempt] | None:
    """Return a timer's attempts, None if the account has no such timer.

    Raises PostgresAway.
    """
    with reaching_postgres():
        found = looking.attempts(account, timer_id)
        return found if found or looking.get(account, timer_id) else None


class NotGivenUp(Exception):
    """The timer has not ended, or ended in a way that can't be replayed."""


class TriedTooOften(Exception):
    """The timer was tried too often to be replayed once more."""


class Erased(Exception):
    """What the timer called was erased, so it can't be replayed."""


class UnknownPlace(Exception):
    """The timer that a list should go on after does not exist."""


def find_timers(
    account: int, of: TimerFilter, limit: int
) -> tuple[list[StoredTimer], UUID | None]:
    """Return the first timers of a set, and the last one's id if not all.

    Raises UnknownPlace, ListTooSlow or PostgresAway.
    """
    with reading_list():
        if of.after is not None and looking.get(account, of.after) is None:
            raise UnknownPlace
        found = finding.find(account, of, limit=limit + 1)
    page = found[:limit]
    return page, page[-1].id if len(found) > limit else None


def count_timers(account: int, of: TimerFilter, most: int) -> int:
    """Return how many timers a set has, up to `most`.

    Raises ListTooSlow or PostgresAway.
    """
    with list_connection() as connection:
        return finding.count(connection, account, of, most)


def suggest(
    what: Callable[[int, str], list[str]], account: int, beginning: str
) -> list[str]:
    """Return what an account's timers have that begins so.

    `what` is one of `suggesting`. Raises ListTooSlow or PostgresAway.
    """
    with reading_list():
        return what(account, beginning)


def replay_timer(account: int, timer_id: UUID) -> StoredTimer | None:
    """Replay a timer that gave up, and return it; None if there is none.

    It fires again now, with the same id and `webhook-id`. Raises NotGivenUp,
    TriedTooOften, Erased, LimitReached, RowUnwritable, or PostgresAway.
    """
    with reaching_postgres():
        replayed = replaying.replay_one(
            account, timer_id, limited=is_limited(account)
        )
        timer = looking.get(account, timer_id)
    if replayed:
        logger.info("timer replayed", extra={"timer": timer_id})
    elif timer is not None:
        raise _refusal(timer)
    return timer


def _refusal(timer: StoredTimer) -> NotGivenUp | TriedTooOften | Erased:
    """Return why a timer was not replayed."""
    if timer.erased_at is not None:
        return Erased()
    if timer.outcome in GAVE_UP and timer.attempts >= replaying.MOST_ATTEMPTS:
        return TriedTooOften()
    return NotGivenUp()


def replay_timers(
    by: Author, timer_ids: Sequence[UUID], found_by: str
) -> list[UUID]:
    """Replay those of the timers that gave up; return the others' ids.

    They are of the author's account. Those that were tried too often are
    among the others. `found_by` says for the log what they were found by.
    Raises LimitReached or PostgresAway.
    """
    logged = LoggedChange(by, "replay", f"timers by {found_by}")
    with reaching_postgres():
        replayed = replaying.replay(
            by.account, timer_ids, logged, limited=is_limited(by.account)
        )
    logger.info("timers replayed", extra={"timers": len(replayed)})
    return [each for each in dict.fromkeys(timer_ids) if each not in replayed]


def replay_failed(
    by: Author, of: TimerFilter, limit: int, found_by: str
) -> tuple[int, UUID | None]:
    """Replay the first timers of a set that gave up, up to `limit`.

    Returns how many, and the id after which there are more, if any. Timers
    that gave up once more meanwhile come before that id, so they are not in
    the way. Raises LimitReached, UnknownPlace, ListTooSlow or
    PostgresAway.
    """
    found, after = find_timers(by.account, of, limit)
    others = replay_timers(by, [timer.id for timer in found], found_by)
    return len(found) - len(others), after

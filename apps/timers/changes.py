"""What can be done with a timer that is set: by its key, or to change it."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from apps.core.batching import GroupCommit
from apps.core.reaching import reaching_postgres
from apps.monitoring.metrics.catalogue import CREATED
from apps.timers.scheduling.publishing import publish_later
from apps.timers.services import (
    Versions,
    WrongVersion,
    is_limited,
    wanted_version,
)
from apps.timers.storage import by_key, changing, looking, naming
from apps.timers.storage.aside import ROW_ERRORS, writing_one
from apps.timers.storage.by_key import Put
from apps.timers.storage.limiting import LimitReached, Refused
from apps.timers.storage.records import (
    Change,
    Definition,
    DueMessage,
    KeyTaken,
    NamedTimer,
    Repeated,
    Stored,
    StoredTimer,
)

logger = logging.getLogger(__name__)

#: How long a request waits for Postgres before it is answered 503.
_PATIENCE = 3.0
#: How often a change is merged anew since others changed the timer meanwhile.
_TRIES = 5

# Of accounts without limits (False), and with limits: see `services`.
_creates: dict[bool, GroupCommit[NamedTimer, naming.Answer]] = {
    limited: GroupCommit(
        partial(naming.create, limited=limited), singly=ROW_ERRORS
    )
    for limited in (False, True)
}
_puts: dict[bool, GroupCommit[Put, Stored | Refused]] = {
    limited: GroupCommit(
        partial(by_key.put, limited=limited), singly=ROW_ERRORS
    )
    for limited in (False, True)
}
_changes: GroupCommit[Change, Stored | None] = GroupCommit(
    changing.change, singly=ROW_ERRORS
)


class KeyInUse(Exception):
    """Another timer has the key, and has not ended; `args` has its id."""


class RequestKeyReused(Exception):
    """The `Idempotency-Key` belongs to another request."""


class NotChangeable(Exception):
    """The timer is being called, or has ended; the text says which."""


def create_named(timer: NamedTimer) -> Stored | Repeated:
    """Store a timer once for its key, and once for its request's key.

    Raises KeyInUse, RequestKeyReused, LimitReached or PostgresAway.
    """
    with reaching_postgres():
        group = _creates[is_limited(timer.timer.account)]
        answer = group.submit(timer, timeout=_PATIENCE)
    if isinstance(answer, Refused):
        raise LimitReached(answer)
    if isinstance(answer, KeyTaken):
        raise KeyInUse(answer.timer_id)
    if isinstance(answer, Repeated):
        if not answer.is_same:
            raise RequestKeyReused
        return answer
    return _published(answer)


def put_timer(put: Put) -> Stored:
    """Give a key its timer: a new one, or the one that has it and waits.

    Raises LimitReached, RowUnwritable or PostgresAway.
    """
    with reaching_postgres(), writing_one():
        group = _puts[is_limited(put.new.timer.account)]
        stored = group.submit(put, timeout=_PATIENCE)
    if isinstance(stored, Refused):
        raise LimitReached(stored)
    return _published(stored)


def timer_with(account: int, key: str) -> UUID | None:
    """Return the account's timer that has a key and has not ended, if any.

    Raises PostgresAway.
    """
    with reaching_postgres():
        return by_key.holder(account, key)


def change_timer(
    account: int,
    timer_id: UUID,
    what: str,
    *,
    delay: timedelta | None = None,
    due_at: datetime | None = None,
    merge: Callable[[Definition], Definition] | None = None,
    versions: Versions = None,
) -> StoredTimer | None:
    """Change a timer that waits; return it, or None if there is none.

    `what` is the name of the event. `merge` returns the new definition for
    the old one; what it raises is raised. Raises NotChangeable,
    WrongVersion, RowUnwritable or PostgresAway.
    """
    for _ in range(_TRIES):
        with reaching_postgres(), writing_one():
            wanted = version = wanted_version(account, timer_id, versions)
            definition = None
            if merge is not None:
                found = looking.definition(account, timer_id)
                if found is None:
                    return None
                version, has_ended, old = found
                if wanted is not None and wanted != version:
                    raise WrongVersion
                definition = None if has_ended else merge(old)
            change = Change(
                timer_id, account, what, version, delay, due_at,
                definition=definition,
            )
            stored = _changes.submit(change, timeout=_PATIENCE)
            timer = None if stored else looking.get(account, timer_id)
        if stored is not None:
            logger.info(f"timer {what}", extra={"timer": timer_id})
            return _published(stored).timer
        if timer is None:
            return None
        if not timer.waits or version in (None, timer.version):
            raise NotChangeable(_why(timer))
        if wanted is not None:
            raise WrongVersion
    raise WrongVersion


def _why(timer: StoredTimer) -> str:
    """Say why a timer can't be changed any more."""
    if timer.outcome is not None:
        return f"has ended: it is {timer.outcome}"
    if timer.fired_at is not None:
        return "is being called"
    return "was called, and may have been received; it will be called again"


def _published(stored: Stored) -> Stored:
    """Hand a near timer to the publisher, if it needs a message."""
    if stored.is_new:
        CREATED.add()
    if stored.publish_at is not None:
        publish_later(DueMessage(stored.timer.id, stored.publish_at))
    return stored

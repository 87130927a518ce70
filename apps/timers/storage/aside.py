"""What to do when one row makes a statement, or its reading, fail.

Such a row must harm no other. A group is divided until the bad row stands
alone; all others go on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from apps.core.database import UNAVAILABLE, Connection, pool
from apps.core.outages import TROUBLES
from apps.core.rows import Row, named
from apps.monitoring.metrics.catalogue import ENDED
from apps.timers.models import Outcome
from apps.timers.storage.claim_records import (
    ClaimRequest,
    Mark,
    Postponement,
    Report,
)
from apps.webhooks.results import printable

logger = logging.getLogger(__name__)

#: How many timers are written in one commit, at most.
GROUP = 500

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Held = TypeVar("Held", ClaimRequest, Mark, Report, Postponement)

#: Errors that a row, or a value that is written to it, can cause. Errors
#: about another schema are left out: then no row is to blame.
ROW_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.InternalError,
    psycopg.errors.RaiseException,
    ValueError,
    OverflowError,
    RecursionError,
)

# A marked one may have been received.
SET_ASIDE = """
WITH done AS (
    UPDATE timer
    SET outcome = coalesce(%(outcome)s, CASE WHEN sent_at >= next_at
                                             THEN 'unknown' ELSE 'failed' END),
        error = %(error)s, leased_until = NULL, queued_at = NULL,
        headers = CASE WHEN %(outcome)s = 'delivered' THEN NULL
                       ELSE headers END,
        body = CASE WHEN %(outcome)s = 'delivered' THEN NULL ELSE body END,
        encrypted_with = CASE WHEN %(outcome)s = 'delivered' THEN NULL
                              ELSE encrypted_with END
    WHERE id = %(id)s AND outcome IS NULL
      AND (claim_token = %(token)s::uuid
           OR %(free)s AND (fired_at IS NULL OR leased_until < now()))
    RETURNING outcome, account_id, host
),
tallied AS (
    INSERT INTO tally (at, account_id, host, outcome)
    SELECT now(), account_id, host, outcome FROM done
)
SELECT outcome FROM done
"""
#: Statements that find their rows themselves leave out the `skipped` ones.
_NOT_SKIPPED = "id <> ALL(%(skipped)b::uuid[])"
_GIVEN = "id = ANY(%(ids)b::uuid[])"

#: How long a row that can't even be set aside is left alone, in seconds.
_PAUSE = 60.0
#: How many such rows are remembered.
_MOST = 1_000


def each_for_itself(
    work: Callable[[Sequence[Item]], list[Answer]],
    items: Sequence[Item],
    bad: Callable[[Item, Exception], list[Answer]],
) -> list[Answer]:
    """Return what `work` answers for all items, in their order.

    When it raises one of ROW_ERRORS, each half of the items is tried by
    itself. A single item that fails is given to `bad`, with the error.
    `work` must do nothing when it raises, or do no harm when it is repeated.
    """
    try:
        return work(items)
    except UNAVAILABLE:
        raise
    except ROW_ERRORS as error:
        if len(items) < 2:
            return [one for item in items for one in bad(item, error)]
    middle = len(items) // 2
    first = each_for_itself(work, items[:middle], bad)
    return first + each_for_itself(work, items[middle:], bad)


def by_groups(
    work: Callable[[Sequence[Item]], list[Answer]],
    items: Sequence[Item],
    bad: Callable[[Item, Exception], list[Answer]],
) -> list[Answer]:
    """Do the same with at most GROUP items at a time."""
    return [
        answer
        for first in range(0, len(items), GROUP)
        for answer in each_for_itself(work, items[first:first + GROUP], bad)
    ]


def skip(timer_id: UUID, error: Exception) -> list[Any]:
    """Leave a timer as it is, and out of all groups for a while."""
    skipped.add(timer_id, reason(error))
    return []


def reason(error: Exception) -> str:
    """Return one line that can be stored, without the row's contents."""
    return f"invalid: {_plain(error)}"


def _plain(error: Exception) -> str:
    """Return an error's text without details, where Postgres repeats rows."""
    text = str(error)
    if isinstance(error, psycopg.Error):
        text = error.diag.message_primary or text
    return printable(text) or type(error).__name__


class RowUnwritable(Exception):
    """A timer's row can't be changed; the text says why."""


@contextmanager
def writing_one() -> Iterator[None]:
    """Raise RowUnwritable for an error that the one written row causes."""
    try:
        yield
    except UNAVAILABLE:
        raise
    except ROW_ERRORS as error:
        raise RowUnwritable(_plain(error)) from error


class Skipped:
    """Rows that can't be used at all; each is left alone for a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[UUID, float] = {}

    def add(self, timer_id: UUID, why: str) -> None:
        """Skip a row for a minute, and log that once a minute at most."""
        with self._lock:
            self._forget_old()
            if timer_id in self._until or len(self._until) >= _MOST:
                return
            self._until[timer_id] = self._clock() + _PAUSE
        # A pass meets it again only when the minute is over.
        TROUBLES.hold(f"timer {timer_id}", why, seconds=_PAUSE + 15)
        logger.error(
            "timer skipped: its row can't be used, nor set aside",
            extra={"timer": timer_id, "error": why},
        )

    def ids(self) -> list[UUID]:
        """Return the rows that are to be left alone now."""
        if not self._until:  # nearly always, so without the lock
            return []
        with self._lock:
            self._forget_old()
            return list(self._until)

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._until.clear()

    def _forget_old(self) -> None:
        now = self._clock()
        for timer_id, until in list(self._until.items()):
            if until <= now:
                del self._until[timer_id]


skipped = Skipped()


def set_aside(
    timer_id: UUID,
    error: Exception,
    *,
    token: UUID | None = None,
    outcome: Outcome | None = None,
    free: bool = True,
) -> bool:
    """End a timer whose row makes something fail; tell if that was done.

    It ends as failed, or as unknown if its request had left, unless an
    `outcome` is given. It must be held by the token or, if `free`, by
    nobody. If it can't even be set aside, it is skipped for a minute.
    """
    why = reason(error)
    values = {
        "id": timer_id, "token": token, "free": free, "error": why,
        "outcome": outcome and outcome.value,
    }
    try:
        with pool().connection() as connection:
            done = connection.execute(SET_ASIDE, values).fetchone()
    except UNAVAILABLE:
        raise
    except ROW_ERRORS:
        skipped.add(timer_id, why)
        return False
    if done is not None:
        ENDED.add(of=done[0])
        logger.error(
            "timer set aside: its row can't be used",
            extra={"timer": timer_id, "error": why},
        )
    return done is not None


def matched(
    query: str,
    items: Sequence[Held],
    columns: Callable[[Sequence[Held]], dict[str, Any]],
    outcome: Callable[[Held], Outcome | None] = lambda _: None,
) -> list[bool]:
    """Tell which claims a query found; the query returns their tokens.

    A claim that makes the query fail is set aside, with the outcome that
    `outcome` returns for it.
    """

    def run(some: Sequence[Held]) -> list[bool]:
        values = columns(some)
        values["ids"] = [item.id for item in some]
        values["tokens"] = [item.token for item in some]
        with pool().connection() as connection:
            rows = connection.execute(query, values).fetchall()
        tokens = {token for (token,) in rows}
        return [item.token in tokens for item in some]

    def bad(item: Held, error: Exception) -> list[bool]:
        return [
            set_aside(
                item.id, error, token=item.token, outcome=outcome(item),
                free=False,
            )
        ]

    return each_for_itself(run, items, bad)


def bad_free(timer_id: UUID, error: Exception) -> list[Any]:
    """Set aside a row that nobody holds, and leave it out."""
    set_aside(timer_id, error)
    return []


def found(
    connection: Connection, query: str, ids: str, **values: Any
) -> list[Row]:
    """Run a query that finds its timers itself; leave out what it fails on.

    `ids` is a query that finds their ids, and fails on none of them.
    """
    values["skipped"] = skipped.ids()
    try:
        return named(connection.execute(query, values))
    except UNAVAILABLE:
        raise
    except ROW_ERRORS:
        rows = named(connection.execute(ids, values))

    def run(some: Sequence[UUID]) -> list[Row]:
        values["ids"] = list(some)
        given = query.replace(_NOT_SKIPPED, _GIVEN)
        return named(connection.execute(given, values))

    return each_for_itself(run, [row["id"] for row in rows], bad_free)

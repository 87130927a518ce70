"""Erasing timers: which are meant, and what becomes of those that wait."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from apps.accounts.authors import Author
from apps.accounts.log import LoggedChange
from apps.core.reaching import reaching_postgres
from apps.timers import bulk
from apps.timers.services import find_timers
from apps.timers.storage import erasing
from apps.timers.storage.records import StoredTimer, TimerFilter

logger = logging.getLogger(__name__)

#: How many timers are looked at together.
PAGE = 500


def by_ids(account: int, timer_ids: Sequence[UUID]) -> list[StoredTimer]:
    """Return those of the timers that the account has.

    Raises PostgresAway.
    """
    with reaching_postgres():
        return erasing.show(account, timer_ids)


def first(
    account: int, label: tuple[str, str]
) -> tuple[list[StoredTimer], bool]:
    """Return an account's first timers with a label, and whether it has more.

    Raises ListTooSlow or PostgresAway.
    """
    found, after = find_timers(account, TimerFilter(labels=(label,)), PAGE)
    return found, after is not None


def by_label(
    account: int, label: tuple[str, str]
) -> Iterator[list[StoredTimer]]:
    """Yield an account's timers with a label, a page at a time.

    Those of a page may be erased before the next one is asked for. Raises
    ListTooSlow or PostgresAway.
    """
    of = TimerFilter(labels=(label,))
    while True:
        found, after = find_timers(account, of, PAGE)
        yield found
        if after is None:
            return
        of = replace(of, after=after)


def living(timers: Sequence[StoredTimer]) -> list[UUID]:
    """Return the timers that have not ended: they can't be erased."""
    return [timer.id for timer in timers if timer.outcome is None]


def erase(
    by: Author, timers: Sequence[StoredTimer], found_by: str, *, cancels: bool
) -> tuple[int, list[UUID]]:
    """Erase timers that have ended; return how many, and which have not.

    They are of the author's account. `found_by` says for the log what they
    were found by.

    Those that wait are cancelled first, if `cancels` says so. What was erased
    before is not counted. Raises PostgresAway.
    """
    if cancels and (waiting := living(timers)):
        bulk.cancel(by, waiting, found_by)
    ids = [timer.id for timer in timers]
    logged = LoggedChange(by, "erase", f"timers by {found_by}")
    with reaching_postgres():
        erased = erasing.erase(by.account, ids, logged)
        left = [each for each in ids if each not in erased]
        others = living(erasing.show(by.account, left)) if left else []
    logger.info("timers erased", extra={"timers": len(erased)})
    return len(erased), others

"""Erasing what a timer called and was answered, and who it was about.

What stays is for counting: its id, its host, its times, how it ended.
"""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from apps.accounts.log import LoggedChange
from apps.core.database import pool
from apps.timers.storage import reading
from apps.timers.storage.aside import by_groups, skip
from apps.timers.storage.naming import UNNAME
from apps.timers.storage.records import StoredTimer
from apps.timers.storage.replaying import LOCK_KEYS

SHOW = f"""
SELECT {reading.SHOWN} FROM timer
WHERE id = ANY(%(ids)b::uuid[]) AND account_id = %(account)s
ORDER BY due_at, id
"""

#: An error's kind is the service's own; what follows may be a receiver's.
_KIND = "split_part(error, ':', 1)"

# Without its token, a late record finds the timer no more.
ERASE = f"""
WITH gone AS MATERIALIZED (
    SELECT id, account_id, key, labels, due_at FROM timer
    WHERE id = ANY(%(ids)b::uuid[]) AND account_id = %(account)s
      AND outcome IS NOT NULL AND erased_at IS NULL
    ORDER BY id
    FOR UPDATE
),
erased AS (
    UPDATE timer
    SET url = coalesce(
            (SELECT parts[1] || parts[2] || '/' FROM regexp_match(
                url, '^([A-Za-z]+://)(?:[^/?#\\\\]*@)?([^/?#\\\\]*)'
            ) AS parts), ''),
        headers = NULL, body = NULL, encrypted_with = NULL,
        claim_token = NULL, key = NULL, labels = NULL, error = {_KIND},
        erased_at = clock_timestamp(), version = version + 1
    FROM gone WHERE timer.id = gone.id
),
tried AS (
    UPDATE attempt SET answer = NULL, encrypted_with = NULL, error = {_KIND}
    WHERE timer_id = ANY(ARRAY(SELECT id FROM gone))
),
noted AS (
    INSERT INTO event (timer_id, at, what)
    SELECT id, clock_timestamp(), 'erased' FROM gone
),
{UNNAME}
SELECT id FROM gone
"""


def show(account: int, timer_ids: Sequence[UUID]) -> list[StoredTimer]:
    """Return those of the timers that the account has."""
    values = {"account": account, "ids": list(timer_ids)}
    with pool().connection() as connection:
        return reading.stored_timers(connection, SHOW, values)


def erase(
    account: int, timer_ids: Sequence[UUID], logged: LoggedChange
) -> set[UUID]:
    """Erase those of an account's timers that have ended; return which.

    500 are erased, and that is logged, in a commit. Those that were erased
    before, and rows that can't be written, are not among them.
    """
    return set(by_groups(partial(_erase, account, logged), timer_ids, skip))


def _erase(
    account: int, logged: LoggedChange, timer_ids: Sequence[UUID]
) -> list[UUID]:
    values = {"account": account, "ids": list(timer_ids)}
    with pool().connection() as connection, connection.transaction():
        connection.execute(LOCK_KEYS, values)
        rows = connection.execute(ERASE, values).fetchall()
        if rows:
            logged.log(connection, len(rows))
    return [timer_id for (timer_id,) in rows]

"""Looking at one timer: as it stands, and its attempts."""

from typing import Any
from uuid import UUID

from apps.core.database import pool
from apps.core.rows import named
from apps.timers.storage import reading
from apps.timers.storage.records import Attempt, Definition, StoredTimer

GET = f"""
SELECT {reading.SHOWN} FROM timer
WHERE id = %(id)s AND account_id = %(account)s
"""

DEFINITION = """
SELECT id, version, url, method, headers, body, encrypted_with, retry,
       at_least_once, max_lateness, labels, outcome IS NOT NULL AS has_ended
FROM timer WHERE id = %(id)s AND account_id = %(account)s
"""

ATTEMPTS = """
SELECT number, due_at, sent_at, status_code, error, duration, answer,
       encrypted_with
FROM attempt
WHERE timer_id = %(id)s
  AND EXISTS (SELECT FROM timer
              WHERE id = %(id)s AND account_id = %(account)s)
ORDER BY number
"""


def get(account: int, timer_id: UUID) -> StoredTimer | None:
    """Return a timer, or None when the account has none of that id.

    If parts of its row can't be read, the rest is returned; `error` says so.
    """
    with pool().connection() as connection:
        timers = reading.stored_timers(
            connection, GET, _values(account, timer_id)
        )
    return timers[0] if timers else None


def definition(
    account: int, timer_id: UUID
) -> tuple[int, bool, Definition] | None:
    """Return a timer's version, whether it has ended, and what it calls.

    None if there is none. What has ended may have lost its headers and body.
    Raises one of `aside.ROW_ERRORS` for a row that can't be read.
    """
    with pool().connection() as connection:
        rows = named(
            connection.execute(DEFINITION, _values(account, timer_id))
        )
    if not rows:
        return None
    row = rows[0]
    return row["version"], row["has_ended"], reading.definition(row)


def attempts(account: int, timer_id: UUID) -> list[Attempt]:
    """Return an account's timer's attempts that have ended, in order."""
    with pool().connection() as connection:
        return reading.attempts(
            connection, ATTEMPTS, _values(account, timer_id)
        )


def _values(account: int, timer_id: UUID) -> dict[str, Any]:
    return {"account": account, "id": timer_id}

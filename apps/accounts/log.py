"""Who did what: each change by an operator, and each one in bulk.

An entry is written in the transaction of its change, so that there is no
change without one. No statement alters an entry; `forget` removes old ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from apps.accounts.authors import Author
from apps.core.database import Connection, pool
from apps.core.rows import named

#: How many days an entry is kept: a year, and a month to look back at it.
DAYS_KEPT = 400
#: How many entries are removed in one transaction.
_BATCH = 500

WRITE = """
INSERT INTO log (id, account_id, at, key, operator, address, action, object,
                 count)
VALUES (gen_random_uuid(), %(account)s, clock_timestamp(), %(key)s,
        %(operator)s, %(address)s, %(action)s, %(object)s, %(count)s)
"""

_SHOWN = """
id, at, key, operator, host(address) AS address, action, object, count
"""

LATEST = f"""
SELECT {_SHOWN} FROM log WHERE account_id = %(account)s
ORDER BY at DESC, id DESC LIMIT %(limit)s
"""

AFTER = f"""
SELECT {_SHOWN} FROM log
WHERE account_id = %(account)s
  AND (at, id) < (SELECT at, id FROM log
                  WHERE id = %(after)s AND account_id = %(account)s)
ORDER BY at DESC, id DESC LIMIT %(limit)s
"""

IS_THERE = """
SELECT FROM log WHERE id = %(after)s AND account_id = %(account)s
"""

FORGET = f"""
DELETE FROM log WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM log
    WHERE at < clock_timestamp() - interval '{DAYS_KEPT} days'
    ORDER BY at LIMIT {_BATCH}
    FOR UPDATE SKIP LOCKED
))
"""


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A change that is to be logged.

    action   a verb, such as `revoke`
    object   what it was done to, such as `key 4hX2bQ9z`; nothing secret, and
             nothing of a timer: of a filter only what it is by
    account  whom the change concerns, if that is not the author's account
    """

    by: Author
    action: str
    object: str
    account: int | None = None

    def log(
        self, connection: Connection | CursorWrapper, count: int | None = None
    ) -> None:
        """Write the entry, in the connection's transaction.

        `count` is of how many objects, if it may be any number.
        """
        account = self.by.account if self.account is None else self.account
        connection.execute(
            WRITE,
            {
                "account": account, "key": self.by.key,
                "operator": self.by.operator, "address": self.by.address,
                "action": self.action, "object": self.object, "count": count,
            },
        )


def write(change: LoggedChange) -> None:
    """Write the entry of a change that has many transactions, before them."""
    with pool().connection() as connection:
        change.log(connection)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log, as it is shown; see `models.LogEntry`."""

    id: UUID
    at: datetime
    key: str | None
    operator: str | None
    address: str | None
    action: str
    object: str
    count: int | None


class UnknownEntry(Exception):
    """The account has no entry after which a page could go on."""


def entries(
    account: int, limit: int, after: UUID | None = None
) -> tuple[list[Entry], UUID | None]:
    """Return an account's latest entries, and the last one's id if not all.

    Raises UnknownEntry.
    """
    values = {"account": account, "after": after, "limit": limit + 1}
    query = LATEST if after is None else AFTER
    with pool().connection() as connection:
        rows = named(connection.execute(query, values))
        if after is not None and not rows:
            found = connection.execute(IS_THERE, values).fetchone()
            if found is None:
                raise UnknownEntry
    page = [Entry(**row) for row in rows[:limit]]
    return page, page[-1].id if len(rows) > limit else None


def forget() -> Iterator[int]:
    """Remove old entries; each step does one batch, and yields 0.

    It removes no timers, which a round of retention counts.
    """
    removed = _BATCH
    while removed == _BATCH:
        with pool().connection() as connection:
            removed = connection.execute(FORGET).rowcount
        yield 0

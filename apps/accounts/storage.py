"""Accounts and API keys in Postgres."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from apps.accounts.authors import Author
from apps.accounts.keys import KeyParts
from apps.accounts.log import LoggedChange
from apps.core.database import Connection, pool
from apps.core.rows import named

Record = TypeVar("Record")

#: Keys of an account that are not revoked, at most.
MOST_KEYS = 1_000

CREATE_ACCOUNT = """
INSERT INTO account (name, created_at) VALUES (%(name)s, clock_timestamp())
ON CONFLICT (name) DO NOTHING
RETURNING id, name, created_at
"""

ACCOUNTS = "SELECT id, name, created_at FROM account ORDER BY id"

LOCK_ACCOUNT = "SELECT FROM account WHERE id = %(account)s FOR UPDATE"

CREATE_KEY = f"""
INSERT INTO api_key (prefix, account_id, digest, scopes, created_at,
                     expires_at)
SELECT %(prefix)s, %(account)s, %(digest)s, %(scopes)s, clock_timestamp(),
       %(expires_at)s
WHERE (SELECT count(*) FROM api_key
       WHERE account_id = %(account)s AND revoked_at IS NULL) < {MOST_KEYS}
"""

_SHOWN = """
prefix, account.name AS account, scopes, api_key.created_at, expires_at,
last_used_at, revoked_at
"""

KEYS = f"""
SELECT {_SHOWN} FROM api_key JOIN account ON account.id = account_id
ORDER BY api_key.created_at, prefix
"""

KEYS_OF = f"""
SELECT {_SHOWN} FROM api_key JOIN account ON account.id = account_id
WHERE account_id = %(account)s AND revoked_at IS NULL
ORDER BY api_key.created_at, prefix
"""

# A second call of the two that come at the same time sees what the first did.
REVOKE = """
WITH found AS MATERIALIZED (
    SELECT prefix, account_id, revoked_at FROM api_key
    WHERE prefix = %(prefix)s
      AND account_id = coalesce(%(account)s, account_id)
    FOR UPDATE
),
revoked AS (
    UPDATE api_key SET revoked_at = clock_timestamp()
    FROM found
    WHERE api_key.prefix = found.prefix AND found.revoked_at IS NULL
)
SELECT account_id AS account, revoked_at IS NULL AS is_news FROM found
"""

# A prefix that is unknown has a row as well, so that it takes as long.
LOOK_UP = """
SELECT asked.prefix, account_id AS account, digest, scopes,
       extract(epoch FROM expires_at - clock_timestamp())::float AS seconds,
       coalesce(last_used_at < date_trunc('minute', clock_timestamp()), true)
           AS was_unused
FROM unnest(%(prefixes)s::text[]) WITH ORDINALITY AS asked (prefix, number)
     LEFT JOIN api_key ON api_key.prefix = asked.prefix AND revoked_at IS NULL
ORDER BY number
"""

NOTE_USES = """
WITH used AS MATERIALIZED (
    SELECT prefix FROM api_key WHERE prefix = ANY(%(prefixes)s)
    ORDER BY prefix
    FOR UPDATE
)
UPDATE api_key
SET last_used_at = date_trunc('minute', clock_timestamp())
FROM used WHERE api_key.prefix = used.prefix
"""


@dataclass(frozen=True, slots=True)
class Account:
    """An account; see `models.Account`."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as it may be shown; see `models.ApiKey`."""

    prefix: str
    account: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class FoundKey:
    """What is stored under a prefix; all None if nothing is.

    seconds     until it expires; negative once it has, None if it never does
    was_unused  whether it was not yet used in this minute
    """

    prefix: str
    account: int | None
    digest: bytes | None
    scopes: list[str] | None
    seconds: float | None
    was_unused: bool


class TooManyKeys(Exception):
    """The account has MOST_KEYS keys that are not revoked."""


def create_account(name: str, by: Author) -> Account | None:
    """Create an account; None if there is one of that name."""
    with pool().connection() as connection, connection.transaction():
        found = _read(connection, Account, CREATE_ACCOUNT, name=name)
        if not found:
            return None
        LoggedChange(
            by, "create", f"account {name}", found[0].id
        ).log(connection)
    return found[0]


def accounts() -> list[Account]:
    """Return all accounts, in the order of their ids."""
    with pool().connection() as connection:
        return _read(connection, Account, ACCOUNTS)


def create_key(
    parts: KeyParts,
    account: int,
    scopes: Sequence[str],
    expires_at: datetime | None,
    by: Author,
) -> None:
    """Store a key of an account. Raises TooManyKeys."""
    values = {
        "prefix": parts.prefix, "digest": parts.digest, "account": account,
        "scopes": list(scopes), "expires_at": expires_at,
    }
    with pool().connection() as connection, connection.transaction():
        connection.execute(LOCK_ACCOUNT, values)
        if not connection.execute(CREATE_KEY, values).rowcount:
            raise TooManyKeys
        LoggedChange(
            by, "create", f"key {parts.prefix}", account
        ).log(connection)


def keys(account: int | None = None) -> list[ApiKey]:
    """Return an account's keys that are not revoked; None: all keys."""
    query = KEYS if account is None else KEYS_OF
    with pool().connection() as connection:
        return _read(connection, ApiKey, query, account=account)


def revoke(prefix: str, account: int | None, by: Author) -> bool:
    """Revoke a key, of the account if one is given; False if there is none.

    One that is revoked already stays so.
    """
    values = {"prefix": prefix, "account": account}
    with pool().connection() as connection, connection.transaction():
        rows = named(connection.execute(REVOKE, values))
        for row in rows:
            if row["is_news"]:
                LoggedChange(
                    by, "revoke", f"key {prefix}", row["account"]
                ).log(connection)
    return bool(rows)


def look_up(prefixes: Sequence[str]) -> list[FoundKey]:
    """Return what is stored under each prefix, in their order."""
    with pool().connection() as connection:
        return _read(connection, FoundKey, LOOK_UP, prefixes=list(prefixes))


def note_uses(prefixes: Iterable[str]) -> None:
    """Note that keys were used in this minute."""
    with pool().connection() as connection:
        connection.execute(NOTE_USES, {"prefixes": list(prefixes)})


def _read(
    connection: Connection, kind: type[Record], query: str, **values: Any
) -> list[Record]:
    """Return a query's rows; its columns are named as the record's fields."""
    return [kind(**row) for row in named(connection.execute(query, values))]

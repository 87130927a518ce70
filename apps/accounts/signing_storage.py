"""Signing secrets in Postgres.

A row goes when its secret is revoked, or, once its time is over, with the next
change that the account makes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.accounts.authors import Author
from apps.accounts.log import LoggedChange
from apps.accounts.storage import LOCK_ACCOUNT
from apps.core.database import pool
from apps.core.rows import Row, named

#: How many secrets of an account may sign at a time. Each call has a
#: signature for each of them.
MOST_SECRETS = 10

_COUNTS = "(ends_at IS NULL OR ends_at > clock_timestamp())"

CREATE = f"""
INSERT INTO signing_secret (id, account_id, kind, secret, encrypted_with,
                            public_key, created_at)
SELECT %(id)s, %(account)s, %(kind)s, %(secret)b, %(encrypted_with)s,
       %(public_key)s, clock_timestamp()
WHERE (SELECT count(*) FROM signing_secret
       WHERE account_id = %(account)s AND {_COUNTS}) < {MOST_SECRETS}
"""

END_OTHERS = """
UPDATE signing_secret SET ends_at = least(ends_at, %(ends_at)s)
WHERE account_id = %(account)s AND kind = %(kind)s AND id <> %(id)s
"""

FORGET = f"""
DELETE FROM signing_secret WHERE account_id = %(account)s AND NOT {_COUNTS}
"""

LIST = f"""
SELECT signing_secret.id, account.name AS account, kind, public_key,
       signing_secret.created_at, ends_at
FROM signing_secret JOIN account ON account.id = account_id
WHERE account_id = coalesce(%(account)s, account_id) AND {_COUNTS}
ORDER BY account_id, signing_secret.created_at, signing_secret.id
"""

END = f"""
UPDATE signing_secret SET ends_at = %(ends_at)s
WHERE id = %(id)s AND account_id = coalesce(%(account)s, account_id)
  AND {_COUNTS}
RETURNING account_id
"""

REVOKE = f"""
DELETE FROM signing_secret
WHERE id = %(id)s AND account_id = coalesce(%(account)s, account_id)
  AND {_COUNTS}
RETURNING account_id
"""

LOOK_UP = f"""
SELECT account_id AS account, id, kind, secret, encrypted_with
FROM signing_secret
WHERE account_id = ANY(%(accounts)s) AND {_COUNTS}
ORDER BY created_at DESC, id
"""

LOCK_OLD = """
SELECT id, secret, encrypted_with FROM signing_secret
WHERE encrypted_with IS DISTINCT FROM %(key)s
ORDER BY id
FOR UPDATE
"""

RENEW = """
UPDATE signing_secret SET secret = %(secret)b, encrypted_with = %(key)s
WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret to be stored; see `models.SigningSecret`."""

    id: str
    account: int
    kind: str
    secret: bytes
    encrypted_with: str | None
    public_key: str | None


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret as it may be shown; see `models.SigningSecret`."""

    id: str
    account: str
    kind: str
    public_key: str | None
    created_at: datetime
    ends_at: datetime | None


class TooManySecrets(Exception):
    """The account has MOST_SECRETS secrets that sign."""


def create(
    new: NewSecret, others_end_at: datetime | None, by: Author
) -> None:
    """Store a secret; end the account's others of its kind, if asked for.

    Raises TooManySecrets.
    """
    values: dict[str, Any] = {
        "id": new.id, "account": new.account, "kind": new.kind,
        "secret": new.secret, "encrypted_with": new.encrypted_with,
        "public_key": new.public_key, "ends_at": others_end_at,
    }
    with pool().connection() as connection, connection.transaction():
        connection.execute(LOCK_ACCOUNT, values)
        connection.execute(FORGET, values)
        if not connection.execute(CREATE, values).rowcount:
            raise TooManySecrets
        if others_end_at is not None:
            connection.execute(END_OTHERS, values)
        LoggedChange(
            by, "create", f"signing secret {new.id}", new.account
        ).log(connection)


def listed(account: int | None = None) -> list[SigningSecret]:
    """Return an account's secrets that sign; None: those of all accounts."""
    with pool().connection() as connection:
        rows = named(connection.execute(LIST, {"account": account}))
    return [SigningSecret(**row) for row in rows]


def end(
    secret_id: str,
    account: int | None,
    ends_at: datetime | None,
    by: Author,
) -> bool:
    """End a secret at a moment, or now; False if there is none that signs."""
    values = {"id": secret_id, "account": account, "ends_at": ends_at}
    query = REVOKE if ends_at is None else END
    with pool().connection() as connection, connection.transaction():
        owners = connection.execute(query, values).fetchall()
        for (owner,) in owners:
            LoggedChange(
                by, "revoke", f"signing secret {secret_id}", owner
            ).log(connection)
    return bool(owners)


def look_up(accounts: Sequence[int]) -> list[list[Row]]:
    """Return the rows of each account's secrets, in the accounts' order."""
    with pool().connection() as connection:
        cursor = connection.execute(LOOK_UP, {"accounts": list(accounts)})
        rows = named(cursor)
    found: dict[int, list[Row]] = {account: [] for account in accounts}
    for row in rows:
        found[row["account"]].append(row)
    return [found[account] for account in accounts]


def renew(
    key_id: str | None, renewed: Callable[[Row], bytes | None]
) -> int:
    """Store the secrets anew that another key has encrypted, in one commit.

    `renewed` returns a secret's new bytes, None if it is to stay as it is.
    Returns how many were stored.
    """
    done = 0
    with pool().connection() as connection, connection.transaction():
        values = {"key": key_id}
        for row in named(connection.execute(LOCK_OLD, values)):
            if (secret := renewed(row)) is not None:
                own = {**values, "id": row["id"], "secret": secret}
                done += connection.execute(RENEW, own).rowcount
    return done

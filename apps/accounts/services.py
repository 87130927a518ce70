"""What can be done with accounts and API keys."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from apps.accounts import limits, log, storage
from apps.accounts.authors import Author
from apps.accounts.keys import new_key, parse_key
from apps.accounts.limits import NONE, Limits
from apps.accounts.storage import Account, ApiKey
from apps.core.reaching import reaching_postgres

logger = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def create_account(name: str, by: Author) -> Account | None:
    """Create an account; None if there is one of that name.

    The name must match NAME. Raises PostgresAway.
    """
    with reaching_postgres():
        account = storage.create_account(name, by)
    if account is not None:
        logger.info("account created", extra={"account": name})
    return account


def future_moment(text: str) -> datetime:
    """Read when a key is to end; raise ValueError with a sentence."""
    try:
        moment = datetime.fromisoformat(text)
        is_future = moment > datetime.now(UTC)
    except (TypeError, ValueError):
        raise ValueError(
            "must be a moment with its offset, such as 2027-01-31T12:00:00Z"
        ) from None
    if not is_future:
        raise ValueError("must be in the future")
    return moment


def list_accounts() -> list[Account]:
    """Return all accounts. Raises PostgresAway."""
    with reaching_postgres():
        return storage.accounts()


def account_named(name: str) -> Account | None:
    """Return the account of a name, None if there is none.

    Raises PostgresAway.
    """
    return next((each for each in list_accounts() if each.name == name), None)


class BurstAlone(Exception):
    """A burst needs a limit of creates a second."""


def list_limits() -> dict[int, Limits]:
    """Return the limits of all accounts that have some, by their ids.

    Raises PostgresAway.
    """
    with reaching_postgres():
        return limits.all_limits()


def change_limits(
    name: str, given: Mapping[str, int | None], by: Author
) -> Limits | None:
    """Change some limits of an account; return all, None if there is none.

    `given` has fields of Limits; the others stay. Without a burst, it is as
    many as a second. Raises BurstAlone or PostgresAway.
    """
    account = account_named(name)
    if account is None:
        return None
    wanted = replace(list_limits().get(account.id, NONE), **given)
    if wanted.creates_per_second is None:
        if given.get("burst") is not None:
            raise BurstAlone
        wanted = replace(wanted, burst=None)
    elif wanted.burst is None:
        wanted = replace(wanted, burst=wanted.creates_per_second)
    if given:
        with reaching_postgres():
            limits.set_limits(
                account.id, wanted,
                log.LoggedChange(by, "limit", f"account {name}", account.id),
            )
        logger.info("limits changed", extra={"account": name})
    return wanted


def create_key(
    account: int,
    scopes: Sequence[str],
    expires_at: datetime | None,
    by: Author,
) -> str:
    """Create a key of an account; return it. It can't be shown again.

    Raises storage.TooManyKeys or PostgresAway.
    """
    key = new_key()
    parts = parse_key(key)
    assert parts is not None
    with reaching_postgres():
        storage.create_key(
            parts, account, sorted(set(scopes)), expires_at, by
        )
    logger.info("API key created", extra={"key": parts.prefix})
    return key


def list_keys(account: int | None = None) -> list[ApiKey]:
    """Return an account's keys that are not revoked; None: all keys.

    Raises PostgresAway.
    """
    with reaching_postgres():
        return storage.keys(account)


def revoke_key(prefix: str, account: int | None, by: Author) -> bool:
    """Revoke a key; False if there is none, or it is another account's.

    Without an account it may be any account's.
    It is refused everywhere after remembered.LIFETIME. Raises PostgresAway.
    """
    with reaching_postgres():
        was_there = storage.revoke(prefix, account, by)
    if was_there:
        logger.info("API key revoked", extra={"key": prefix})
    return was_there


def list_log(
    account: int, limit: int, after: UUID | None = None
) -> tuple[list[log.Entry], UUID | None]:
    """Return the latest entries of the log, and the last one's id if not all.

    Raises log.UnknownEntry or PostgresAway.
    """
    with reaching_postgres():
        return log.entries(account, limit, after)

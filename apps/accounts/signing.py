"""The secrets with which an account's calls are signed.

All secrets of an account sign each call, so that receivers can change from
one to another. The server's own (`WEBHOOK_SECRET`, `WEBHOOK_PRIVATE_KEY`)
belong to the account `default`. Calls of an account without a secret are not
signed.
"""

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from django.conf import settings

from apps.accounts import signing_storage as storage
from apps.accounts.authors import Author
from apps.accounts.signing_storage import NewSecret, SigningSecret
from apps.core.batching import GroupCommit
from apps.core.callers import DEFAULT_ACCOUNT
from apps.core.database import UNAVAILABLE
from apps.core.reaching import reaching_postgres
from apps.core.remembered import LIFETIME, Remembered
from apps.core.rows import Row
from apps.core.sealing import KeyRing, ring
from apps.webhooks.signing import (
    new_private_key,
    new_secret,
    parse_secret,
    private_key,
    public_key,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
    )

logger = logging.getLogger(__name__)

#: `v1` is HMAC-SHA-256, `v1a` is Ed25519.
Kind = Literal["v1", "v1a"]

#: How many accounts' secrets are remembered, at most.
_MOST_ACCOUNTS = 10_000
#: How long a call waits for Postgres before it takes what was known before.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Created:
    """A secret that was created.

    text  what its receivers verify with: of `v1` the secret itself, which is
          shown only now, of `v1a` the public key
    """

    id: str
    text: str


def create(
    account: int,
    kind: Kind,
    by: Author,
    others_end_at: datetime | None = None,
) -> Created:
    """Create a secret, which signs from now on.

    The account's others of its kind end at the moment that is given, unless
    they end before. Raises storage.TooManySecrets or PostgresAway.
    """
    secret_id = secrets.token_hex(6)
    if kind == "v1":
        text = new_secret()
        raw, public = parse_secret(text), None
    else:
        key = new_private_key()
        raw, public = key.private_bytes_raw(), public_key(key)
        text = public
    keys = ring()
    sealed = keys.seal(raw, place(secret_id))
    new = NewSecret(secret_id, account, kind, sealed, keys.current, public)
    with reaching_postgres():
        storage.create(new, others_end_at, by)
    logger.info("signing secret created", extra={"secret": secret_id})
    return Created(secret_id, text)


def list_secrets(account: int | None = None) -> list[SigningSecret]:
    """Return an account's secrets that sign; None: those of all accounts.

    Raises PostgresAway.
    """
    with reaching_postgres():
        return storage.listed(account)


def revoke(
    secret_id: str,
    by: Author,
    account: int | None = None,
    ends_at: datetime | None = None,
) -> bool:
    """End a secret now, or at a moment; False if there is none that signs.

    With an account, only one of its own. Workers heed it within LIFETIME.
    Raises PostgresAway.
    """
    with reaching_postgres():
        was_there = storage.end(secret_id, account, ends_at, by)
    if was_there:
        logger.info("signing secret revoked", extra={"secret": secret_id})
    return was_there


def renew(keys: KeyRing) -> tuple[int, list[str]]:
    """Encrypt all secrets anew with the key that encrypts now.

    Returns how many were written, and why others can't be read. Raises
    PostgresAway.
    """
    problems: list[str] = []

    def renewed(row: Row) -> bytes | None:
        try:
            return keys.seal(_raw(row, keys), place(row["id"]))
        except ValueError as error:
            problems.append(str(error))
            return None

    with reaching_postgres():
        done = storage.renew(keys.current, renewed)
    return done, problems


def place(secret_id: str) -> str:
    """Return where a secret is stored, for `core.sealing`."""
    return f"signing_secret {secret_id}"


# --- what workers ask --------------------------------------------------------


class UnreadableSecret(ValueError):
    """A secret of the account can't be read; the text says why."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys that sign an account's calls; none: they are not signed."""

    secrets: tuple[bytes, ...]
    private_keys: "tuple[Ed25519PrivateKey, ...]"


_Answer = SigningKeys | UnreadableSecret
_known: Remembered[int, _Answer] = Remembered(_MOST_ACCOUNTS)
_look_ups: GroupCommit[int, list[Row]] = GroupCommit(storage.look_up)


def keys_of(account: int) -> SigningKeys:
    """Return the keys that sign an account's calls.

    What was found counts for LIFETIME, and longer while Postgres is away: then
    its error is raised only if nothing is known. Raises UnreadableSecret.
    """
    keys = _known.get(account)
    if keys is None:
        now = time.monotonic()
        keys = _look_up(account, _known.last(account))
        _known.keep(account, keys, now + LIFETIME)
    if isinstance(keys, UnreadableSecret):
        raise UnreadableSecret(*keys.args)
    return _with_servers(keys) if account == DEFAULT_ACCOUNT else keys


def forget() -> None:
    """Forget all answers; the next call of each account is a look-up."""
    _known.forget()


def _look_up(account: int, before: _Answer | None) -> _Answer:
    try:
        rows = _look_ups.submit(account, timeout=_PATIENCE)
    except (*UNAVAILABLE, TimeoutError):
        if before is None:
            raise
        return before
    try:
        return _keys(rows)
    except ValueError as error:
        return UnreadableSecret(str(error))


def _with_servers(keys: SigningKeys) -> SigningKeys:
    return SigningKeys(
        (*settings.WEBHOOK_SIGNING_KEYS, *keys.secrets),
        (*settings.WEBHOOK_PRIVATE_KEYS, *keys.private_keys),
    )


def _keys(rows: Sequence[Row]) -> SigningKeys:
    raw = [(row["kind"], _raw(row, ring())) for row in rows]
    return SigningKeys(
        tuple(key for kind, key in raw if kind == "v1"),
        tuple(private_key(key) for kind, key in raw if kind == "v1a"),
    )


def _raw(row: Row, keys: KeyRing) -> bytes:
    """Return the bytes of a secret. Raises ValueError."""
    key_id, raw = row["encrypted_with"], bytes(row["secret"])
    try:
        return keys.unseal(key_id, raw, place(row["id"]))
    except ValueError as error:
        raise ValueError(f"signing secret {row['id']}: {error}") from None

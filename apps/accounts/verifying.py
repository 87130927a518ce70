"""Finds out whose a key is, without a statement for each request."""

import time
from hashlib import sha256
from hmac import compare_digest
from typing import Literal

from apps.accounts import storage
from apps.accounts.keys import parse_key
from apps.accounts.storage import FoundKey
from apps.core.batching import BackgroundWriter, GroupCommit
from apps.core.callers import Caller
from apps.core.database import UNAVAILABLE
from apps.core.processes import PerProcess
from apps.core.reaching import reaching_postgres
from apps.core.remembered import LIFETIME, Remembered

#: How many answers of each kind are kept, at most.
_MOST_ANSWERS = 1_000
#: How long a request waits for Postgres before it is answered 503.
_PATIENCE = 3.0
#: What a secret is compared with if nothing is stored under its prefix.
_NO_DIGEST = bytes(32)

# By the SHA-256 of the whole key: a wrong secret is looked up, whether a key
# has its prefix or not. Texts that are no keys can't displace those that are.
_known: Remembered[bytes, Caller] = Remembered(_MOST_ANSWERS)
_unknown: Remembered[bytes, Literal[True]] = Remembered(_MOST_ANSWERS)

_look_ups: GroupCommit[str, FoundKey] = GroupCommit(storage.look_up)


def caller_with(key: str) -> Caller | None:
    """Return whose a key is; None if it is unknown, revoked or expired.

    Raises PostgresAway.
    """
    digest = sha256(key.encode()).digest()
    caller = _known.get(digest)
    if caller is not None or _unknown.get(digest):
        return caller
    return _look_up(key, digest)


def forget() -> None:
    """Forget all answers; the next request with each key is a look-up."""
    _known.forget()
    _unknown.forget()


def _look_up(key: str, digest: bytes) -> Caller | None:
    parts = parse_key(key)
    if parts is None:
        return None
    now = time.monotonic()
    with reaching_postgres():
        found = _look_ups.submit(parts.prefix, timeout=_PATIENCE)
    is_same = compare_digest(parts.digest, found.digest or _NO_DIGEST)
    seconds = LIFETIME if found.seconds is None else found.seconds
    if found.account is None or not is_same or seconds <= 0:
        _unknown.keep(digest, True, now + LIFETIME)
        return None
    caller = Caller(
        found.account, found.prefix, frozenset(found.scopes or ())
    )
    _known.keep(digest, caller, now + min(seconds, LIFETIME))
    if found.was_unused:
        _uses().add(found.prefix)
    return caller


@PerProcess
def _uses() -> BackgroundWriter[str, str]:
    """Return the writer of when keys were used last."""
    return BackgroundWriter(
        storage.note_uses,
        key=lambda prefix: prefix,
        name="uses of keys",
        room=_MOST_ANSWERS,
        again=UNAVAILABLE,
    )

"""Finds out whose a key is, without a statement for each request."""

import time
from hashlib import sha256
from hmac import compare_digest

from apps.accounts import storage
from apps.accounts.keys import parse_key
from apps.accounts.storage import FoundKey
from apps.core.batching import BackgroundWriter, GroupCommit
from apps.core.callers import Caller
from apps.core.database import UNAVAILABLE
from apps.core.processes import PerProcess
from apps.core.reaching import reaching_postgres

#: For how long the answer of a look-up counts, in seconds. For so long a key
#: that was revoked may still be taken.
LIFETIME = 2.0
#: How many answers of each kind are kept, at most.
MOST_ANSWERS = 1_000
#: How long a request waits for Postgres before it is answered 503.
_PATIENCE = 3.0
#: What a secret is compared with if nothing is stored under its prefix.
_NO_DIGEST = bytes(32)

#: Until when an answer counts, on `time.monotonic()`, and the answer.
_Answer = tuple[float, Caller | None]
_NO_ANSWER: _Answer = (0.0, None)

# By the SHA-256 of the whole key: a wrong secret is looked up, whether a key
# has its prefix or not. Texts that are no keys can't displace those that are.
_known: dict[bytes, _Answer] = {}
_unknown: dict[bytes, _Answer] = {}

_look_ups: GroupCommit[str, FoundKey] = GroupCommit(storage.look_up)


def caller_with(key: str) -> Caller | None:
    """Return whose a key is; None if it is unknown, revoked or expired.

    Raises PostgresAway.
    """
    digest = sha256(key.encode()).digest()
    now = time.monotonic()
    for answers in (_known, _unknown):
        until, caller = answers.get(digest, _NO_ANSWER)
        if now < until:
            return caller
    return _look_up(key, digest, now)


def forget() -> None:
    """Forget all answers; the next request with each key is a look-up."""
    _known.clear()
    _unknown.clear()


def _look_up(key: str, digest: bytes, now: float) -> Caller | None:
    parts = parse_key(key)
    if parts is None:
        return None
    with reaching_postgres():
        found = _look_ups.submit(parts.prefix, timeout=_PATIENCE)
    is_same = compare_digest(parts.digest, found.digest or _NO_DIGEST)
    seconds = LIFETIME if found.seconds is None else found.seconds
    if found.account is None or not is_same or seconds <= 0:
        _keep(_unknown, digest, (now + LIFETIME, None))
        return None
    caller = Caller(
        found.account, found.prefix, frozenset(found.scopes or ())
    )
    _keep(_known, digest, (now + min(seconds, LIFETIME), caller))
    if found.was_unused:
        _uses().add(found.prefix)
    return caller


def _keep(
    answers: dict[bytes, _Answer], digest: bytes, answer: _Answer
) -> None:
    if len(answers) >= MOST_ANSWERS:
        answers.clear()
    answers[digest] = answer


@PerProcess
def _uses() -> BackgroundWriter[str, str]:
    """Return the writer of when keys were used last."""
    return BackgroundWriter(
        storage.note_uses,
        key=lambda prefix: prefix,
        name="uses of keys",
        room=MOST_ANSWERS,
        again=UNAVAILABLE,
    )

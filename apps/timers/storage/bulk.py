"""Storing many timers in one commit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from apps.core.database import Connection, pool
from apps.timers.storage import creating
from apps.timers.storage.aside import each_for_itself, reason
from apps.timers.storage.limiting import Budgets, Refused, wanted
from apps.timers.storage.naming import (
    REMEMBERED,
    lock_keys,
    rounds,
    store,
)
from apps.timers.storage.records import (
    DueMessage,
    KeyTaken,
    Name,
    NamedTimer,
    NewTimer,
    read_clock,
)

EARLIER = f"""
SELECT fingerprint, answers FROM request_chunk
WHERE account_id = %(account)s AND key = %(key)s AND number = %(number)s
  AND created_at >= clock_timestamp() - interval '{REMEMBERED}'
"""

REMEMBER = f"""
INSERT INTO request_chunk (account_id, key, number, fingerprint, answers,
                           created_at)
VALUES (%(account)s, %(key)s, %(number)s, %(fingerprint)b, %(answers)b,
        clock_timestamp())
ON CONFLICT (account_id, key, number) DO UPDATE
SET fingerprint = excluded.fingerprint, answers = excluded.answers,
    created_at = excluded.created_at
WHERE request_chunk.created_at
      < excluded.created_at - interval '{REMEMBERED}'
"""


@dataclass(frozen=True, slots=True)
class RequestChunk:
    """A chunk of a request that has an `Idempotency-Key`."""

    account: int
    key: str
    number: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Unwritable:
    """Not stored: Postgres refuses the row, and says why."""

    why: str


#: A timer that was stored has the moment when it is due.
Answer = KeyTaken | Unwritable | Refused | datetime


class StoredMeanwhile(Exception):
    """Another request stored the same chunk at the same time."""


def earlier(chunk: RequestChunk) -> tuple[bytes, bytes] | None:
    """Return a stored chunk's fingerprint and its answers, None if new."""
    values = {
        "account": chunk.account, "key": chunk.key, "number": chunk.number,
    }
    with pool().connection() as connection:
        row = connection.execute(EARLIER, values).fetchone()
    return row and (bytes(row[0]), bytes(row[1]))


def create(
    timers: Sequence[NamedTimer],
    chunk: RequestChunk | None,
    render: Callable[[Sequence[Answer]], bytes],
    *,
    limited: bool = False,
) -> tuple[bytes, list[DueMessage]]:
    """Store timers; return their rendered answers, and what to publish.

    The answers are kept with the chunk. `limited` says whether the account
    may have limits. Raises StoredMeanwhile.
    """
    found: dict[UUID, Answer] = {}
    with pool().connection() as connection:

        def stored_within(some: Sequence[NamedTimer]) -> list[NamedTimer]:
            answers = each_for_itself(
                partial(_store, connection), some, _unwritable
            )
            found.update(zip(_ids(some), answers, strict=True))
            return [
                each for each, answer in zip(some, answers, strict=True)
                if not isinstance(answer, datetime)
            ]

        with connection.transaction():
            budgets = Budgets(connection, wanted(timers) if limited else {})
            for each in budgets.within(timers, stored_within):
                found[each.timer.id] = budgets.refused(each.timer.account)
            budgets.keep()
            answers = [found[timer_id] for timer_id in _ids(timers)]
            text = render(answers)
            if chunk is not None:
                _remember(connection, chunk, text)
        queued = [
            (timer.timer.id, answer)
            for timer, answer in zip(timers, answers, strict=True)
            if timer.timer.queued and isinstance(answer, datetime)
        ]
        if not queued:
            return text, []
        clock = read_clock(connection)
    return text, [
        DueMessage(timer_id, clock.to_monotonic(due_at))
        for timer_id, due_at in queued
    ]


def _ids(timers: Sequence[NamedTimer]) -> list[UUID]:
    return [timer.timer.id for timer in timers]


def _store(
    connection: Connection, timers: Sequence[NamedTimer]
) -> list[Answer]:
    """Store timers, or none of them if it raises."""
    plain = [timer.timer for timer in timers if not _has_name(timer)]
    others = [timer for timer in timers if _has_name(timer)]
    found: dict[UUID, Answer] = {}
    with connection.transaction():
        if plain:
            found |= _store_plain(connection, plain)
        # All keys at once, so that no two requests wait for each other.
        lock_keys(connection, others)
        for group in rounds(others, _key):
            found |= {
                timer_id: KeyTaken(row["holder"])
                if row["holder"]
                else row["due_at"]
                for timer_id, row in store(connection, group).items()
            }
    return [found[timer.timer.id] for timer in timers]


def _store_plain(
    connection: Connection, timers: Sequence[NewTimer]
) -> dict[UUID, Answer]:
    now = creating.store(connection, timers)
    return {timer.id: timer.due_at or now + timer.delay for timer in timers}


def _has_name(timer: NamedTimer) -> bool:
    return timer.key is not None or bool(timer.timer.definition.labels)


def _key(timer: NamedTimer) -> list[Name]:
    return [] if timer.key is None else [timer.name]


def _unwritable(timer: NamedTimer, error: Exception) -> list[Answer]:
    return [Unwritable(reason(error))]


def _remember(
    connection: Connection, chunk: RequestChunk, answers: bytes
) -> None:
    done = connection.execute(
        REMEMBER,
        {
            "account": chunk.account,
            "key": chunk.key,
            "number": chunk.number,
            "fingerprint": chunk.fingerprint,
            "answers": answers,
        },
    )
    if not done.rowcount:
        raise StoredMeanwhile

"""Encrypting what is stored anew, with the key that encrypts now.

A walk goes through a table in the order of its primary key, a bounded part of
it at a time. What the key has encrypted already is passed over, so a walk that
was interrupted begins anew. Rows are locked in their order while they are
written, a hundred at most: a claim waits for milliseconds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.core.database import Connection, pool
from apps.core.rows import Row, named
from apps.core.sealing import KeyRing
from apps.timers.storage import sealed
from apps.timers.storage.aside import each_for_itself, reason

#: How many rows a step looks at, and how many it writes in one transaction.
_PAGE, _BATCH = 2_000, 100

_OLD_TIMER = """
    (headers IS NOT NULL OR body IS NOT NULL)
    AND encrypted_with IS DISTINCT FROM %(key)s
"""
_TIMERS = f"""
SELECT id, 0 AS number, {_OLD_TIMER} AS is_old
FROM timer WHERE id > %(id)s
ORDER BY id LIMIT {_PAGE}
"""
# It may have ended meanwhile.
_LOCK_TIMERS = f"""
SELECT id, headers, body, encrypted_with FROM timer
WHERE id = ANY(%(ids)b::uuid[]) AND {_OLD_TIMER}
ORDER BY id
FOR UPDATE
"""
_WRITE_TIMERS = """
UPDATE timer
SET headers = given.headers, body = given.body, encrypted_with = %(key)s
FROM unnest(%(ids)b::uuid[], %(headers)b::jsonb[], %(bodies)b::bytea[])
     AS given (id, headers, body)
WHERE timer.id = given.id
"""

_OLD_ATTEMPT = "answer IS NOT NULL AND encrypted_with IS DISTINCT FROM %(key)s"
_ATTEMPTS = f"""
SELECT timer_id AS id, number, {_OLD_ATTEMPT} AS is_old
FROM attempt WHERE (timer_id, number) > (%(id)s, %(number)s)
ORDER BY timer_id, number LIMIT {_PAGE}
"""
_LOCK_ATTEMPTS = f"""
SELECT attempt.timer_id AS id, attempt.number, answer, encrypted_with
FROM unnest(%(ids)b::uuid[], %(numbers)b::integer[]) AS asked (id, number)
     JOIN attempt ON timer_id = asked.id AND attempt.number = asked.number
WHERE {_OLD_ATTEMPT}
ORDER BY timer_id, attempt.number
FOR UPDATE OF attempt
"""
_WRITE_ATTEMPTS = """
UPDATE attempt SET answer = given.answer, encrypted_with = %(key)s
FROM unnest(%(ids)b::uuid[], %(numbers)b::integer[], %(answers)b::bytea[])
     AS given (id, number, answer)
WHERE timer_id = given.id AND attempt.number = given.number
"""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of a walk did.

    done      how many rows it has written
    problems  why rows could not be read or written, each with its id
    """

    done: int
    problems: Sequence[str]


def timers(keys: KeyRing) -> Iterator[Step]:
    """Encrypt headers and bodies anew; each step does a part of them."""
    return _walk(_TIMERS, keys, _renew_timers)


def attempts(keys: KeyRing) -> Iterator[Step]:
    """Encrypt answers anew; each step does a part of them."""
    return _walk(_ATTEMPTS, keys, _renew_attempts)


Renew = Callable[[Connection, KeyRing, Sequence[Row]], int]


def _walk(query: str, keys: KeyRing, renew: Renew) -> Iterator[Step]:
    values: dict[str, Any] = {
        "key": keys.current, "id": UUID(int=0), "number": 0
    }
    while True:
        with pool().connection() as connection:
            rows = named(connection.execute(query, values))
        old = [row for row in rows if row["is_old"]]
        yield _step(old, keys, renew)
        if len(rows) < _PAGE:
            return
        values |= {"id": rows[-1]["id"], "number": rows[-1]["number"]}


def _step(old: Sequence[Row], keys: KeyRing, renew: Renew) -> Step:
    problems: list[str] = []

    def run(some: Sequence[Row]) -> list[int]:
        with pool().connection() as connection, connection.transaction():
            return [renew(connection, keys, some)]

    def bad(row: Row, error: Exception) -> list[int]:
        problems.append(f"timer {row['id']}: {reason(error)}")
        return []

    done = sum(
        sum(each_for_itself(run, old[first:first + _BATCH], bad))
        for first in range(0, len(old), _BATCH)
    )
    return Step(done, problems)


def _renew_timers(
    connection: Connection, keys: KeyRing, found: Sequence[Row]
) -> int:
    values: dict[str, Any] = {
        "ids": [row["id"] for row in found], "key": keys.current,
    }
    rows = named(connection.execute(_LOCK_TIMERS, values))
    renewed = [sealed.renewed(keys, row) for row in rows]
    values |= {
        "ids": [row["id"] for row in rows],
        "headers": [headers for headers, _ in renewed],
        "bodies": [body for _, body in renewed],
    }
    return connection.execute(_WRITE_TIMERS, values).rowcount


def _renew_attempts(
    connection: Connection, keys: KeyRing, found: Sequence[Row]
) -> int:
    values: dict[str, Any] = {
        "ids": [row["id"] for row in found],
        "numbers": [row["number"] for row in found],
        "key": keys.current,
    }
    rows = named(connection.execute(_LOCK_ATTEMPTS, values))
    values |= {
        "ids": [row["id"] for row in rows],
        "numbers": [row["number"] for row in rows],
        "answers": [sealed.renewed_answer(keys, row) for row in rows],
    }
    return connection.execute(_WRITE_ATTEMPTS, values).rowcount

"""The SQL of inboxes: what they got, and how they answer."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.core.database import pool
from apps.core.rows import named

#: What an inbox may be called, as a regular expression.
NAME = "[A-Za-z0-9._~-]{1,64}"
#: The methods of calls. No timer sends another, or a longer body, in bytes.
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
MOST_BODY = 64 * 1024

#: How many calls of an inbox are kept, and for how long; and how many of all
#: inboxes together.
KEPT = 500
KEPT_FOR = timedelta(hours=1)
KEPT_IN_ALL = 10_000

#: Calls after which a process deletes what is not kept.
_PRUNE_EVERY = 50

#: Advisory locks: any numbers do that nothing else here uses.
_IN_TURN, _PRUNING = 72_301, 72_302

# One call after the other is stored, so that whoever has seen an id has seen
# all before it. None of them waits for the disk: they are there to look at.
# Web can't reset a connection. It answers 421 (Misdirected Request) instead.
KEEP = """
WITH turn AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true),
           pg_advisory_xact_lock(%(lock)s)
)
INSERT INTO inbox_call (inbox, came_at, method, query, headers, body, answer,
                        seconds)
SELECT %(inbox)s, statement_timestamp() - %(elapsed)s, %(method)s, %(query)s,
       %(headers)s::jsonb, %(body)s,
       CASE WHEN %(resets)s THEN 'reset' WHEN given.answer = 'reset' THEN '421'
            ELSE coalesce(given.answer, '200') END,
       coalesce(given.seconds, 0)
FROM turn LEFT JOIN inbox_answer AS given ON given.inbox = %(inbox)s
RETURNING answer, seconds
"""

_SHOWN = "id, came_at, method, query, headers, body, answer, seconds"
_IS_KEPT = """
inbox = %(inbox)s AND came_at > now() - %(kept_for)s
AND id > coalesce((
    SELECT id FROM inbox_call WHERE inbox = %(inbox)s
    ORDER BY id DESC OFFSET %(kept)s LIMIT 1
), 0)
"""

AFTER = f"""
SELECT {_SHOWN} FROM inbox_call WHERE {_IS_KEPT} AND id > %(after)s
ORDER BY id LIMIT %(limit)s
"""

LATEST = f"""
SELECT {_SHOWN} FROM inbox_call WHERE {_IS_KEPT}
ORDER BY id DESC LIMIT %(limit)s
"""

NEWS = """
SELECT inbox, max(id) AS id FROM inbox_call WHERE id > %(after)s
GROUP BY inbox
"""

PRUNE = """
WITH alone AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(%(lock)s) AS is_alone
),
answers AS (
    DELETE FROM inbox_answer
    WHERE set_at < now() - interval '1 day'
      AND (SELECT is_alone FROM alone)
)
DELETE FROM inbox_call USING (
    SELECT id, row_number() OVER (PARTITION BY inbox ORDER BY id DESC) AS nth,
           row_number() OVER (ORDER BY id DESC) AS nth_of_all
    FROM inbox_call
) AS each
WHERE inbox_call.id = each.id AND (SELECT is_alone FROM alone)
  AND (nth > %(kept)s OR nth_of_all > %(kept_in_all)s
       OR came_at < now() - %(kept_for)s)
"""

ANSWER = "SELECT answer, seconds FROM inbox_answer WHERE inbox = %(inbox)s"

SET_ANSWER = """
INSERT INTO inbox_answer (inbox, answer, seconds, set_at)
VALUES (%(inbox)s, %(answer)s, %(seconds)s, now())
ON CONFLICT (inbox) DO UPDATE
SET answer = excluded.answer, seconds = excluded.seconds,
    set_at = excluded.set_at
"""

_LIMITS = {"kept": KEPT, "kept_for": KEPT_FOR}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call is answered: one of `answers.KINDS`."""

    answer: str = "200"
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be kept.

    headers  by their names, in lower case
    elapsed  how long web has had it
    """

    inbox: str
    method: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    elapsed: timedelta


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was kept; see `models.InboxCall`."""

    id: int
    came_at: datetime
    method: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    answer: str
    seconds: int


_kept = itertools.count(1)


def keep(call: NewCall, *, resets: bool = False) -> Answer:
    """Keep a call, and return how it is to be answered.

    `resets` tells whether its connection will be reset, whatever was chosen.
    """
    values = {
        "lock": _IN_TURN, "inbox": call.inbox, "method": call.method,
        "query": call.query, "headers": json.dumps(dict(call.headers)),
        "body": call.body, "elapsed": call.elapsed, "resets": resets,
    }
    given = Answer(**_rows(KEEP, values)[0])
    if next(_kept) % _PRUNE_EVERY == 0:
        prune()
    return given


def after(inbox: str, last: int, limit: int) -> list[Call]:
    """Return calls that came after the one with the id `last`, in order."""
    return _calls(AFTER, inbox, limit, after=last)


def latest(inbox: str, limit: int) -> list[Call]:
    """Return the latest calls, the newest one first."""
    return _calls(LATEST, inbox, limit)


def news(last: int) -> dict[str, int]:
    """Return the last id of each inbox that got calls after `last`."""
    found = _rows(NEWS, {"after": last})
    return {row["inbox"]: row["id"] for row in found}


def prune() -> None:
    """Delete what is not kept any longer, unless another process does."""
    values = {**_LIMITS, "lock": _PRUNING, "kept_in_all": KEPT_IN_ALL}
    with pool().connection() as connection:
        connection.execute(PRUNE, values)


def answer(inbox: str) -> Answer:
    """Return how an inbox answers."""
    rows = _rows(ANSWER, {"inbox": inbox})
    return Answer(**rows[0]) if rows else Answer()


def set_answer(inbox: str, given: Answer) -> None:
    """Let an inbox answer so from now on."""
    values = {
        "inbox": inbox, "answer": given.answer, "seconds": given.seconds,
    }
    with pool().connection() as connection:
        connection.execute(SET_ANSWER, values)


def _calls(
    query: str, inbox: str, limit: int, **values: object
) -> list[Call]:
    given = {**_LIMITS, "inbox": inbox, "limit": limit, **values}
    return [Call(**row) for row in _rows(query, given)]


def _rows(
    query: str, values: Mapping[str, object]
) -> Sequence[Mapping[str, Any]]:
    with pool().connection() as connection:
        return named(connection.execute(query, values))

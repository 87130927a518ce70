"""Storing timers that have a key, labels or an `Idempotency-Key`.

Whoever stores or changes a timer under a key first locks the key's row. The
next statement has a new snapshot. So it sees the timer of whoever had the lock
before.
"""

from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TypeVar
from uuid import UUID

from apps.core.database import Connection, pool
from apps.core.rows import Row, named
from apps.timers.storage import reading
from apps.timers.storage.creating import ENCRYPTED_WITH, NEW, columns
from apps.timers.storage.limiting import Budgets, Refused, wanted
from apps.timers.storage.queueing import CHANNEL
from apps.timers.storage.records import (
    ClockReading,
    KeyTaken,
    Name,
    NamedTimer,
    NewTimer,
    Repeated,
    Stored,
    read_clock,
)

Item = TypeVar("Item")

#: How long a request's key is remembered.
REMEMBERED = "24 hours"

LOCK_KEYS = """
INSERT INTO timer_key (account_id, key, timer_id)
SELECT * FROM unnest(%(accounts)b::integer[], %(keys)b::text[],
                     %(ids)b::uuid[]) AS new (account_id, key, timer_id)
ORDER BY account_id, key
ON CONFLICT (account_id, key) DO UPDATE SET key = excluded.key
RETURNING account_id, key, timer_id, latest_at
"""

# A key is free once its timer has ended. A request whose key is remembered
# stores nothing: then its row is not among those that were `asked`.
CREATE = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now,
           CASE WHEN %(notify)s THEN pg_notify('{CHANNEL}', '') END
),
given AS MATERIALIZED (
    SELECT new.*, key, labels, request_key, fingerprint, time_left, latest_at,
           CASE WHEN NOT takes_key
                THEN (SELECT holder.id
                      FROM timer_key JOIN timer AS holder
                           ON holder.id = timer_key.timer_id
                      WHERE timer_key.account_id = new.account_id
                        AND timer_key.key = own.key
                        AND holder.outcome IS NULL)
           END AS holder
    FROM {NEW} JOIN unnest(
             %(ids)b::uuid[], %(keys)b::text[], %(labels)b::jsonb[],
             %(request_keys)b::text[], %(fingerprints)b::bytea[],
             %(times_left)b::bigint[], %(takes_key)b::boolean[],
             %(latest_at)b::timestamptz[]
         ) AS own (id, key, labels, request_key, fingerprint, time_left,
                   takes_key, latest_at)
         USING (id)
),
asked AS (
    INSERT INTO request_key (account_id, key, fingerprint, timer_id,
                             time_left, created_at)
    SELECT account_id, request_key, fingerprint, id, time_left, now
    FROM given, clock
    WHERE request_key IS NOT NULL AND holder IS NULL
    ORDER BY account_id, request_key
    ON CONFLICT (account_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, timer_id = excluded.timer_id,
        time_left = excluded.time_left, created_at = excluded.created_at
    WHERE request_key.created_at
          < excluded.created_at - interval '{REMEMBERED}'
    RETURNING timer_id
),
stored AS (
    INSERT INTO timer (id, account_id, url, host, method, headers, body,
                       encrypted_with, retry, max_lateness, created_at, due_at,
                       next_at, queued_at, at_least_once, key, labels)
    SELECT id, account_id, url, host, method, headers, body, {ENCRYPTED_WITH},
           retry, max_lateness, now, coalesce(due_at, now + delay),
           coalesce(due_at, now + delay),
           CASE WHEN queued THEN now END, at_least_once, key, labels
    FROM clock, given
    WHERE holder IS NULL
      AND (request_key IS NULL OR id IN (SELECT timer_id FROM asked))
    RETURNING {reading.SHOWN}, account_id
),
labelled AS (
    INSERT INTO timer_label (account_id, name, value, due_at, timer_id)
    SELECT account_id, label.key, label.value, due_at, id
    FROM stored, jsonb_each_text(labels) AS label
),
holding AS (
    UPDATE timer_key SET timer_id = given.id, latest_at = given.latest_at
    FROM stored JOIN given USING (id)
    WHERE timer_key.account_id = given.account_id
      AND timer_key.key = given.key
)
SELECT given.id AS given_id, given.holder, stored.*
FROM given LEFT JOIN stored USING (id)
"""

# Arrays, and OFFSET 0, have Postgres look up each row by index, however many
# it expects.
#: Parts of a statement: the timers that are `gone` lose their rows here.
UNNAME = """
held AS (
    DELETE FROM timer_key
    WHERE account_id = ANY(ARRAY(SELECT DISTINCT account_id FROM gone))
      AND key = ANY(ARRAY(SELECT key FROM gone WHERE key IS NOT NULL))
      AND timer_id = ANY(ARRAY(SELECT id FROM gone))
),
labelled AS (
    DELETE FROM timer_label WHERE ctid = ANY(ARRAY(
        SELECT found.ctid
        FROM (
            SELECT id, account_id, labels, due_at FROM gone
            WHERE jsonb_typeof(labels) = 'object'
            OFFSET 0
        ) AS named
        CROSS JOIN LATERAL jsonb_each_text(labels) AS label
        CROSS JOIN LATERAL (
            SELECT ctid FROM timer_label
            WHERE account_id = named.account_id
              AND name = label.key AND value = label.value
              AND timer_label.due_at = named.due_at AND timer_id = named.id
            OFFSET 0
        ) AS found
    ))
)
"""

REQUESTS = f"""
SELECT account_id, key, fingerprint, timer_id, time_left,
       created_at < clock_timestamp() - interval '{REMEMBERED}' AS is_old
FROM unnest(%(accounts)b::integer[], %(keys)b::text[])
         AS asked (account_id, key)
     JOIN request_key USING (account_id, key)
"""

# Those who are refused by a limit leave no key behind.
FORGET_KEYS = """
DELETE FROM timer_key
USING unnest(%(accounts)b::integer[], %(keys)b::text[], %(ids)b::uuid[])
      AS given (account_id, key, timer_id)
WHERE timer_key.account_id = given.account_id AND timer_key.key = given.key
  AND timer_key.timer_id = given.timer_id
"""

Answer = Stored | KeyTaken | Repeated | Refused
#: Rows of `timer_key`.
Keys = dict[Name, Row]


def create(
    timers: Sequence[NamedTimer], *, limited: bool = False
) -> list[Answer]:
    """Store timers, each once for its key and once for its request's key.

    Nothing is stored where another timer has the key, or the request was
    made before. The answers stand in the order of the timers. `limited` says
    whether the accounts may have limits.
    """
    rows: dict[UUID, Row] = {}
    with pool().connection() as connection:

        def stored_within(some: Sequence[NamedTimer]) -> list[NamedTimer]:
            for group in rounds(some, _names):
                rows.update(store(connection, group))
            return [each for each in some if not _is_stored(rows, each)]

        with connection.transaction():
            budgets = Budgets(connection, wanted(timers) if limited else {})
            lock_keys(connection, timers)
            others = budgets.within(timers, stored_within)
            forget_keys(connection, others)
            budgets.keep()
        clock = read_clock(connection)
        requests = _earlier(
            connection,
            [
                (timer.timer.account, timer.request_key.key)
                for timer in timers
                if timer.request_key and not _is_stored(rows, timer)
            ],
        )
    return [
        _answer(timer, rows.get(timer.timer.id), requests, clock)
        or budgets.refused(timer.timer.account)
        for timer in timers
    ]


def _is_stored(rows: Mapping[UUID, Row], timer: NamedTimer) -> bool:
    row = rows.get(timer.timer.id)
    return row is not None and row["id"] is not None


def rounds(
    items: Sequence[Item], names: Callable[[Item], Iterable[Hashable]]
) -> list[list[Item]]:
    """Divide items into groups in which no name stands twice.

    Items that share a name keep their order.
    """
    groups: list[list[Item]] = []
    last: dict[Hashable, int] = {}
    for item in items:
        mine = list(names(item))
        place = max((last[name] + 1 for name in mine if name in last),
                    default=0)
        last.update(dict.fromkeys(mine, place))
        if place == len(groups):
            groups.append([])
        groups[place].append(item)
    return groups


def _names(timer: NamedTimer) -> Iterator[tuple[str, int, str]]:
    account = timer.timer.account
    if timer.key is not None:
        yield "key", account, timer.key
    if timer.request_key is not None:
        yield "request", account, timer.request_key.key


def lock_keys(
    connection: Connection, timers: Sequence[NamedTimer]
) -> Keys:
    """Lock the keys' rows until the transaction ends; make what is missing.

    All of them at once, in their order: else two groups could deadlock.
    Returns the rows by their keys. A timer in them may have ended.
    """
    given = {each.name: each.timer.id for each in timers if each.key}
    if not given:
        return {}
    values = {
        "accounts": [account for account, _ in given],
        "keys": [key for _, key in given],
        "ids": list(given.values()),
    }
    rows = named(connection.execute(LOCK_KEYS, values))
    return {(row["account_id"], row["key"]): row for row in rows}


def forget_keys(
    connection: Connection, timers: Sequence[NamedTimer]
) -> None:
    """Remove what lock_keys() has made for timers that are not stored."""
    named_ones = [each for each in timers if each.key]
    if named_ones:
        connection.execute(FORGET_KEYS, {
            "accounts": [each.timer.account for each in named_ones],
            "keys": [each.key for each in named_ones],
            "ids": [each.timer.id for each in named_ones],
        })


def store(
    connection: Connection, timers: Sequence[NamedTimer]
) -> dict[UUID, Row]:
    """Store timers whose keys are locked; return CREATE's rows by their ids.

    No two of them may have one key, or one request's key.
    """
    requests = [timer.request_key for timer in timers]
    cursor = connection.execute(
        CREATE,
        {
            **columns([timer.timer for timer in timers]),
            "keys": [timer.key for timer in timers],
            "request_keys": [each and each.key for each in requests],
            "fingerprints": [each and each.fingerprint for each in requests],
            "times_left": [each and each.time_left for each in requests],
            "takes_key": [timer.takes_key for timer in timers],
            "latest_at": [timer.latest_at for timer in timers],
        },
    )
    return {row["given_id"]: row for row in named(cursor)}


def _earlier(connection: Connection, names: list[Name]) -> dict[Name, Row]:
    """Return what was asked before, by accounts and the requests' keys."""
    if not names:
        return {}
    values = {
        "accounts": [account for account, _ in names],
        "keys": [key for _, key in names],
    }
    rows = named(connection.execute(REQUESTS, values))
    return {(row["account_id"], row["key"]): row for row in rows}


def _answer(
    timer: NamedTimer,
    row: Row | None,
    requests: Mapping[Name, Row],
    clock: ClockReading,
) -> Answer | None:
    """Return what came of a timer; None if a limit did not let it through.

    `row` is one of CREATE, None if a limit was in the way.
    """
    if row and row["id"] is not None:
        return stored(row, timer.timer, clock)
    asked, holder = timer.request_key, row and row["holder"]
    earlier = None
    if asked is not None:
        earlier = requests.get((timer.timer.account, asked.key))
    # Without a holder it was the earlier request that stood in the way.
    if asked and earlier and not ((holder or not row) and earlier["is_old"]):
        is_same = earlier["fingerprint"] == asked.fingerprint
        return Repeated(earlier["timer_id"], earlier["time_left"], is_same)
    return KeyTaken(holder) if holder else None


def stored(row: Row, timer: NewTimer, clock: ClockReading) -> Stored:
    """Return that a timer was stored, from a row of CREATE."""
    publish_at = clock.to_monotonic(row["due_at"]) if timer.queued else None
    return Stored(reading.stored_timer(row), publish_at, is_new=True)

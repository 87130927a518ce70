"""PUT by key: the timer that has a key is changed, or a new one takes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from apps.core.database import Connection, pool
from apps.core.rows import Row, named
from apps.timers.storage import changing, naming, reading
from apps.timers.storage.limiting import Budgets, Refused, wanted
from apps.timers.storage.records import (
    Change,
    ClockReading,
    NamedTimer,
    Stored,
    read_clock,
)

#: What becomes of a timer that has the key and waits.
IfExists = Literal["replace", "keep", "extend"]

# Of the timers that could be changed, as CHANGE has it.
SHOW = f"""
SELECT {reading.SHOWN} FROM timer
WHERE id = ANY(%(ids)b) AND {reading.IS_WAITING}
  AND (sent_at IS NULL OR retries > 0)
"""

KEEP_LATEST = """
UPDATE timer_key SET latest_at = given.latest_at
FROM unnest(%(accounts)b::integer[], %(keys)b::text[],
            %(latest_at)b::timestamptz[]) AS given (account_id, key, latest_at)
WHERE timer_key.account_id = given.account_id AND timer_key.key = given.key
"""

HOLDER = """
SELECT timer_id FROM timer_key JOIN timer ON timer.id = timer_id
WHERE timer_key.account_id = %(account)s AND timer_key.key = %(key)s
  AND outcome IS NULL
"""


@dataclass(frozen=True, slots=True)
class Put:
    """A timer that is to have a key; `new` is what is asked for."""

    new: NamedTimer
    if_exists: IfExists


def put(
    puts: Sequence[Put], *, limited: bool = False
) -> list[Stored | Refused]:
    """Give keys their timers; the answers stand in the order of the puts.

    `limited` says whether the accounts may have limits. Raises one of
    `aside.ROW_ERRORS` if a timer's row can't be written.
    """
    rows: dict[UUID, Row] = {}
    with pool().connection() as connection:
        with connection.transaction():
            new = [put.new for put in puts]
            budgets = Budgets(connection, wanted(new) if limited else {})
            keys = naming.lock_keys(connection, new)
            for group in naming.rounds(puts, lambda put: [put.new.name]):
                rows |= _put(connection, group, keys, budgets)
            others = [each for each in new if each.timer.id not in rows]
            naming.forget_keys(connection, others)
            budgets.keep()
        clock = read_clock(connection)
    return [
        _stored(put, row, clock)
        if (row := rows.get(put.new.timer.id))
        else budgets.refused(put.new.timer.account)
        for put in puts
    ]


def _put(
    connection: Connection,
    puts: Sequence[Put],
    keys: naming.Keys,
    budgets: Budgets,
) -> dict[UUID, Row]:
    """Return the rows of what the keys have now, by the ids of the new timers.

    No two of the puts have one key. `keys` has their rows, which are locked,
    and is kept up to date. A timer that is being called can't be changed:
    another one takes its key. What a limit does not let through has no row.
    """
    kept = [
        keys[put.new.name]["timer_id"] for put in puts
        if put.if_exists == "keep"
    ]
    changes = [
        _change(put, keys[put.new.name]) for put in puts
        if put.if_exists != "keep"
    ]
    found: dict[UUID, Row] = {}
    if kept:
        cursor = connection.execute(SHOW, {"ids": kept})
        found |= {row["id"]: row for row in named(cursor)}
    if changes:
        found |= changing.run(connection, changes)
    rows = {
        put.new.timer.id: found[holder]
        for put in puts
        if (holder := keys[put.new.name]["timer_id"]) in found
    }
    _keep_latest(connection, [p for p in puts if p.new.timer.id in rows], keys)

    def stored(new: Sequence[NamedTimer]) -> Sequence[NamedTimer]:
        rows.update(naming.store(connection, new))
        for each in new:
            keys[each.name] = {
                "timer_id": each.timer.id, "latest_at": each.latest_at
            }
        return ()

    budgets.within(
        [put.new for put in puts if put.new.timer.id not in rows], stored
    )
    return rows


def _change(put: Put, key: Row) -> Change:
    timer = put.new.timer
    if put.if_exists == "extend":
        return Change(
            key["timer_id"], timer.account, "moved", delay=timer.delay,
            due_at=timer.due_at, latest_at=key["latest_at"],
        )
    return Change(
        key["timer_id"], timer.account, "changed", delay=timer.delay,
        due_at=timer.due_at, definition=timer.definition,
    )


def _keep_latest(
    connection: Connection, puts: Sequence[Put], keys: naming.Keys
) -> None:
    """Replace the bounds of those that are replaced, where they differ."""
    wrong = [
        put.new for put in puts
        if put.if_exists == "replace"
        and put.new.latest_at != keys[put.new.name]["latest_at"]
    ]
    if wrong:
        values = {
            "accounts": [each.timer.account for each in wrong],
            "keys": [each.key for each in wrong],
            "latest_at": [each.latest_at for each in wrong],
        }
        connection.execute(KEEP_LATEST, values)
    for each in wrong:
        keys[each.name]["latest_at"] = each.latest_at


def _stored(put: Put, row: Row, clock: ClockReading) -> Stored:
    """Return what came of a put, from a row of CHANGE, CREATE or SHOW."""
    if "is_news" in row:
        return changing.changed(row, clock)
    if "given_id" in row:
        return naming.stored(row, put.new.timer, clock)
    return Stored(reading.stored_timer(row), None, is_new=False)


def holder(account: int, key: str) -> UUID | None:
    """Return the account's timer that has a key and has not ended."""
    values = {"account": account, "key": key}
    with pool().connection() as connection:
        row = connection.execute(HOLDER, values).fetchone()
    return row[0] if row else None

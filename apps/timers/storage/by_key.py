"""PUT by key: the timer that has a key is changed, or a new one takes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from apps.core.database import Connection, pool
from apps.timers.storage import changing, naming, reading
from apps.timers.storage.records import Change, NamedTimer, Stored
from apps.timers.storage.rows import Row, named, read_clock

#: What becomes of a timer that has the key and waits.
IfExists = Literal["replace", "keep", "extend"]

# A timer that is being called can't be changed. Another one takes its key.
WAITING = """
SELECT timer_key.key, timer.id, timer_key.latest_at
FROM timer_key JOIN timer ON timer.id = timer_id
WHERE timer_key.key = ANY(%(keys)b) AND fired_at IS NULL AND outcome IS NULL
  AND (sent_at IS NULL OR retries > 0)
ORDER BY timer.id
FOR UPDATE OF timer
"""

SHOW = f"SELECT {reading.SHOWN} FROM timer WHERE id = ANY(%(ids)b)"

KEEP_LATEST = """
UPDATE timer_key SET latest_at = given.latest_at
FROM unnest(%(keys)b::text[], %(latest_at)b::timestamptz[])
     AS given (key, latest_at)
WHERE timer_key.key = given.key
"""

HOLDER = """
SELECT timer_id FROM timer_key JOIN timer ON timer.id = timer_id
WHERE timer_key.key = %(key)s AND outcome IS NULL
"""


@dataclass(frozen=True, slots=True)
class Put:
    """A timer that is to have a key; `new` is what is asked for."""

    new: NamedTimer
    if_exists: IfExists


def put(puts: Sequence[Put]) -> list[Stored]:
    """Give keys their timers; the answers stand in the order of the puts.

    Raises one of `aside.ROW_ERRORS` if a timer's row can't be written.
    """
    done: list[tuple[Put, Row]] = []
    with pool().connection() as connection:
        with connection.transaction():
            naming.lock_keys(connection, [put.new for put in puts])
            for group in naming.rounds(puts, lambda put: [put.new.key]):
                done += _put(connection, group)
        clock = read_clock(connection)
    answers = {}
    for put, row in done:
        if "is_news" in row:
            answers[id(put)] = changing.changed(row, clock)
        elif "given_id" in row:
            timer = put.new.timer
            answers[id(put)] = naming.stored(row, timer, clock)
        else:
            shown = reading.stored_timer(row)
            answers[id(put)] = Stored(shown, None, is_new=False)
    return [answers[id(put)] for put in puts]


def _put(
    connection: Connection, puts: Sequence[Put]
) -> list[tuple[Put, Row]]:
    """Return each put of a group, whose keys differ, with what is stored.

    The keys are locked.
    """
    cursor = connection.execute(
        WAITING, {"keys": [put.new.key for put in puts]}
    )
    waiting = {row["key"]: row for row in named(cursor)}
    here = [put for put in puts if put.new.key in waiting]
    new = [put for put in puts if put.new.key not in waiting]
    rows: dict[UUID, Row] = {}
    if kept := [p for p in here if p.if_exists == "keep"]:
        ids = [waiting[put.new.key]["id"] for put in kept]
        shown = named(connection.execute(SHOW, {"ids": ids}))
        rows |= {row["id"]: row for row in shown}
    if others := [p for p in here if p.if_exists != "keep"]:
        changes = [_change(put, waiting[put.new.key]) for put in others]
        rows |= changing.run(connection, changes)
        _keep_latest(connection, others, waiting)
    found = [(put, rows[waiting[put.new.key]["id"]]) for put in here]
    if new:
        made = naming.store(connection, [put.new for put in new])
        found += [(put, made[put.new.timer.id]) for put in new]
    return found


def _change(put: Put, found: Row) -> Change:
    timer = put.new.timer
    if put.if_exists == "extend":
        return Change(
            found["id"], "moved", delay=timer.delay, due_at=timer.due_at,
            latest_at=found["latest_at"],
        )
    return Change(
        found["id"], "changed", delay=timer.delay, due_at=timer.due_at,
        definition=timer.definition,
    )


def _keep_latest(
    connection: Connection, puts: Sequence[Put], found: dict[str, Row]
) -> None:
    """Replace the bounds of those that are replaced, where they differ."""
    wrong = [
        put.new for put in puts
        if put.if_exists == "replace"
        and put.new.key is not None
        and put.new.latest_at != found[put.new.key]["latest_at"]
    ]
    if wrong:
        values = {
            "keys": [each.key for each in wrong],
            "latest_at": [each.latest_at for each in wrong],
        }
        connection.execute(KEEP_LATEST, values)


def holder(key: str) -> UUID | None:
    """Return the timer that has a key and has not ended."""
    with pool().connection() as connection:
        row = connection.execute(HOLDER, {"key": key}).fetchone()
    return row[0] if row else None

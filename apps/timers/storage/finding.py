"""Finding timers: pages in the order of `due_at`, then `id`.

A page is made of parts. Each part is one scan that an index has in this
order, and it ends after as many rows as the page may have. Only claims under
way are sorted: there are as many as calls at once. So a page costs what it
shows, however many timers there are (docs/decisions/0026-lists.md).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from apps.core.database import Connection, list_pool
from apps.timers.storage import reading
from apps.timers.storage.patterns import like, port_pattern
from apps.timers.storage.reading import STATUS
from apps.timers.storage.records import STATUSES, StoredTimer, TimerFilter

#: A label that fewer timers have leads to them faster than their status does.
MANY = 10_000

# These conditions are those of the indexes, word for word.
_WAITS = "fired_at IS NULL AND outcome IS NULL"
#: That of timer_account_status. Only SQL by hand makes what fires without a
#: lease.
_ENDED_OR_PUT_OFF = """
    (outcome IS NOT NULL
     OR fired_at IS NULL
        AND (deferred OR attempts <> 0 OR claims <> 0 OR next_at <> due_at)
     OR fired_at IS NOT NULL AND leased_until IS NULL)
"""
#: That of timer_account_host.
NOT_LEASED = """
    (outcome IS NOT NULL OR fired_at IS NULL
     OR fired_at IS NOT NULL AND leased_until IS NULL)
"""
# Postgres takes a comparison of two columns for one that few rows meet.
_AS_IT_WAS_SET = """
    coalesce(next_at = due_at AND NOT deferred
             AND attempts = 0 AND claims = 0, false)
"""

# A timer that is scheduled has it as its due time, too.
_FIRST_WAITING = f"""least(
    (SELECT min(next_at) FROM timer WHERE {_WAITS} AND queued_at IS NULL),
    (SELECT min(next_at) FROM timer WHERE {_WAITS} AND queued_at IS NOT NULL)
)"""

COUNT_LABEL = f"""
SELECT count(*) FROM (
    SELECT FROM timer_label
    WHERE account_id = %(account)s AND name = %(name)s AND value = %(value)s
    LIMIT {MANY}
) AS counted
"""

COUNT_SCHEDULED = f"""
SELECT count(*) FROM (
    SELECT FROM timer
    WHERE account_id = %(account)s AND {NOT_LEASED}
      AND ({STATUS}) COLLATE "C" = 'scheduled'
    LIMIT {MANY}
) AS counted
"""


class Part(NamedTuple):
    """Where some of the timers are.

    condition  which an index has
    time       the index's column that is in the order of `due_at`
    is_sorted  whether the index has them in that order; else all are read
    """

    condition: str
    time: str = "due_at"
    is_sorted: bool = True


def find(account: int, of: TimerFilter, *, limit: int) -> list[StoredTimer]:
    """Return the first timers of a set of an account's, in its order.

    Raises psycopg.errors.QueryCanceled, or `database.Busy`, when that would
    take too long.
    """
    with list_pool().connection() as connection:
        return reading.stored_timers(
            connection, *statement(connection, account, of, limit)
        )


def count(
    connection: Connection, account: int, of: TimerFilter, most: int
) -> int:
    """Return how many timers an account has of a set, up to `most`.

    Raises psycopg.errors.QueryCanceled when that would take too long.
    """
    scans, values = _scans(connection, account, of, most)
    query = f"""
        SELECT count(*) FROM (
            SELECT FROM ({scans}) AS found LIMIT %(limit)s
        ) AS counted
    """
    return _count(connection, query, values)


def statement(
    connection: Connection, account: int, of: TimerFilter, limit: int
) -> tuple[str, dict[str, Any]]:
    """Return the query that finds a page, and its values."""
    scans, values = _scans(connection, account, of, limit)
    order = _order(of)
    query = f"""
        SELECT {reading.SHOWN} FROM timer
        WHERE id = ANY(ARRAY(
            SELECT id FROM ({scans}) AS found
            ORDER BY at {order}, id {order} LIMIT %(limit)s
        ))
        ORDER BY due_at {order}, id {order}
    """
    return query, values


def _order(of: TimerFilter) -> str:
    return "DESC" if of.latest_first else "ASC"


def _scans(
    connection: Connection, account: int, of: TimerFilter, limit: int
) -> tuple[str, dict[str, Any]]:
    """Return the union of a set's scans, and its values.

    Each scan returns as many timers as are wanted in all.
    """
    by_label = bool(of.labels) and not of.statuses
    if len(of.labels) > 1 or (of.labels and of.statuses):
        counts = {
            label: _count_label(connection, account, label)
            for label in of.labels
        }
        of = replace(of, labels=sorted(of.labels, key=counts.__getitem__))
        by_label = (
            by_label or min(counts.values()) < MANY
            or _label_leads(connection, account, of, limit)
        )
    if by_label:
        scans = [_scan_label(of, _order(of))]
    else:
        few = _reads_scheduled(of) and has_few(connection, account)
        parts = _parts(of, has_few=few)
        scans = [_scan(part, of, _order(of)) for part in parts]
    values = _values(of) | {"account": account, "limit": limit}
    return " UNION ALL ".join(scans), values


def _count_label(
    connection: Connection, account: int, label: tuple[str, str]
) -> int:
    """Return how many of an account's timers have a label, or MANY."""
    name, value = label
    values = {"account": account, "name": name, "value": value}
    return _count(connection, COUNT_LABEL, values)


def _label_leads(
    connection: Connection, account: int, of: TimerFilter, limit: int
) -> bool:
    """Tell whether a page is full after a few of the label's timers.

    They are ten times as many as it shows, and at most MANY.
    """
    values = _values(of) | {
        "account": account, "limit": limit, "first": min(10 * limit, MANY),
    }
    scan = _scan_label(of, _order(of), most="LIMIT %(first)s")
    query = f"SELECT count(*) FROM ({scan}) AS found"
    return _count(connection, query, values) == limit


def has_few(connection: Connection, account: int) -> bool:
    """Tell whether fewer than MANY of an account's timers are scheduled.

    They are found by the account. To look for them in the order of all
    accounts' timers would take long, if the others have millions.
    """
    values = {"account": account}
    return _count(connection, COUNT_SCHEDULED, values) < MANY


def _count(connection: Connection, query: str, values: dict[str, Any]) -> int:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return int(row[0])


def _reads_scheduled(of: TimerFilter) -> bool:
    """Tell whether scheduled timers are found by nothing but their status."""
    is_asked = not of.statuses or "scheduled" in of.statuses
    return is_asked and of.host is None and of.key is None


def _values(of: TimerFilter) -> dict[str, Any]:
    values: dict[str, Any] = {
        "host": of.host, "port": port_pattern(of.port), "key": of.key,
        "since": of.since, "until": of.until, "after": of.after,
        "statuses": list(of.statuses or STATUSES),
    }
    if of.key is not None and of.key_begins:
        values["key"] = like(of.key)
    for number, (name, value) in enumerate(of.labels):
        values[f"name{number}"] = name
        values[f"value{number}"] = value
    return values


def _parts(of: TimerFilter, *, has_few: bool) -> Iterator[Part]:
    """Return the parts of a page, which have no timer in common.

    has_few  whether few of the account's timers are scheduled
    """
    statuses = dict.fromkeys(of.statuses or STATUSES)
    if of.key is None:
        for status in statuses:
            if status == "scheduled" and has_few:
                condition = f"{NOT_LEASED} AND {_has(status)}"
                yield Part(condition, is_sorted=False)
            else:
                yield from _parts_of(status, at_host=of.host is not None)
    elif of.key_begins and not of.statuses:
        yield Part("key IS NOT NULL")
    else:
        for status in statuses:
            yield Part(f"key IS NOT NULL AND {_has(status)}")


def _parts_of(status: str, *, at_host: bool) -> Iterator[Part]:
    if at_host:
        yield Part(f"{NOT_LEASED} AND {_has(status)}")
    else:
        yield Part(f"{_ENDED_OR_PUT_OFF} AND {_has(status)}")
    if status == "firing":
        yield Part(
            "fired_at IS NOT NULL AND outcome IS NULL"
            " AND leased_until IS NOT NULL"
        )
    if status == "scheduled" and not at_host:
        waits = f"{_WAITS} AND {_AS_IT_WAS_SET}"
        yield Part(f"{waits} AND queued_at IS NULL", "next_at")
        yield Part(f"{waits} AND queued_at IS NOT NULL", "next_at")


def _has(status: str) -> str:
    assert status in STATUSES
    return f"""({STATUS}) COLLATE "C" = '{status}'"""


def _scan(part: Part, of: TimerFilter, order: str) -> str:
    """Return the query of one part; labels are looked up."""
    where = [
        "account_id = %(account)s", part.condition,
        *_bounds(of, part.time, "id"),
    ]
    if of.host is not None:
        where.append('host COLLATE "C" = %(host)s')
    # Postgres takes a bare pattern for one that few rows meet, and would
    # read all rows of the host to find them.
    if of.port is not None:
        where.append("coalesce(url ~* %(port)s, false)")
    if of.key is not None:
        sign = "LIKE" if of.key_begins else "="
        where.append(f'key COLLATE "C" {sign} %(key)s')
    looked_up = _lookups(of, 0, "timer.due_at", "timer.id")
    found = f"""
        SELECT id, {part.time} AS at FROM timer {looked_up}
        WHERE {" AND ".join(where)}
    """
    if not part.is_sorted:
        found = f"SELECT * FROM ({found} OFFSET 0) AS few"
    return f"({found} ORDER BY at {order}, id {order} LIMIT %(limit)s)"


def _scan_label(of: TimerFilter, order: str, *, most: str = "") -> str:
    """Return the query of the first label's timers; all else is looked up.

    `most` limits how many of the label's timers are looked at.
    """
    where = [
        "account_id = %(account)s",
        "name = %(name0)s", "value = %(value0)s",
        *_bounds(of, "due_at", "timer_id"),
    ]
    # Most of a label's timers may have ended: they are not read.
    if set(of.statuses) == {"scheduled"}:
        where.append(f"due_at >= {_FIRST_WAITING}")
    labels = f"""
        SELECT due_at, timer_id FROM timer_label WHERE {" AND ".join(where)}
    """
    if most:
        labels += f"ORDER BY due_at {order}, timer_id {order} {most}"
    looked_up = _lookups(of, 1, "label.due_at", "label.timer_id")
    return f"""
        (SELECT timer_id AS id, due_at AS at FROM ({labels}) AS label
         CROSS JOIN LATERAL (
             SELECT FROM timer
             WHERE id = label.timer_id AND due_at = label.due_at
               AND ({STATUS}) = ANY(%(statuses)s)
             OFFSET 0
         ) AS timer
         {looked_up}
         ORDER BY due_at {order}, timer_id {order} LIMIT %(limit)s)
    """


# Postgres believes that hardly any row has several columns in common with
# another, and would read whole tables to find those that have. OFFSET 0 has it
# look up one row after the other, until the page is full.
def _lookups(of: TimerFilter, first: int, time: str, timer_id: str) -> str:
    """Return joins that look up, from the first on, whether labels match."""
    return " ".join(
        f"""
        CROSS JOIN LATERAL (
            SELECT FROM timer_label
            WHERE account_id = %(account)s
              AND name = %(name{n})s AND value = %(value{n})s
              AND due_at = {time} AND timer_id = {timer_id}
            OFFSET 0
        ) AS label{n}
        """
        for n in range(first, len(of.labels))
    )


def _bounds(of: TimerFilter, time: str, timer_id: str) -> Iterator[str]:
    """Return the conditions by which a page begins and ends."""
    if of.since is not None:
        yield f"{time} >= %(since)s"
    if of.until is not None:
        yield f"{time} < %(until)s"
    if of.after is not None:
        sign = "<" if of.latest_first else ">"
        yield f"""
            ({time}, {timer_id}) {sign} (
                (SELECT due_at FROM timer WHERE id = %(after)s),
                %(after)s::uuid
            )
        """

"""What callers do with timers that wait: they change, move or cancel them."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from uuid import UUID

from django.conf import settings

from apps.accounts.log import LoggedChange
from apps.core.database import Connection, pool
from apps.core.rows import Row, named
from apps.timers.storage import reading
from apps.timers.storage.aside import by_groups, skip, writing_one
from apps.timers.storage.creating import definitions
from apps.timers.storage.naming import rounds
from apps.timers.storage.queueing import CHANNEL, HORIZON
from apps.timers.storage.records import (
    Change,
    ClockReading,
    Stored,
    read_clock,
)

# A timer that is to be retried may have been called. It can be cancelled all
# the same: it is not called again. So its headers and body are needed no more.
CANCEL = f"""
WITH waiting AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b) AND account_id = %(account)s
      AND {reading.IS_WAITING}
      AND (sent_at IS NULL OR retries > 0)
      AND version = coalesce(%(version)s, version)
    ORDER BY id
    FOR UPDATE
),
cancelled AS (
    UPDATE timer
    SET outcome = 'cancelled', queued_at = NULL, version = version + 1,
        headers = NULL, body = NULL, encrypted_with = NULL
    FROM waiting WHERE timer.id = waiting.id
    RETURNING timer.id, host
),
noted AS (
    INSERT INTO event (timer_id, at, what)
    SELECT id, clock_timestamp(), 'cancelled' FROM cancelled
),
tallied AS (
    INSERT INTO tally (at, account_id, host, outcome)
    SELECT now(), %(account)s, host, 'cancelled' FROM cancelled
)
SELECT id FROM cancelled
"""

# A timer may be changed as long as it may be cancelled. If it is moved later,
# its message comes early and is sent back (`take_back`). If it is moved
# earlier, it needs another message.
CHANGE = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
asked AS MATERIALIZED (
    SELECT * FROM unnest(
        %(ids)b::uuid[], %(accounts)b::integer[], %(what)b::text[],
        %(versions)b::integer[], %(delays)b::interval[],
        %(due_at)b::timestamptz[], %(latest_at)b::timestamptz[],
        %(urls)b::text[], %(hosts)b::text[],
        %(methods)b::text[], %(headers)b::jsonb[], %(bodies)b::bytea[],
        %(retries)b::jsonb[], %(lateness)b::interval[], %(again)b::boolean[],
        %(labels)b::jsonb[]
    ) AS asked (timer_id, account, what, if_version, new_delay, at_time,
                latest, new_url, new_host, new_method, new_headers, new_body,
                new_retry, new_lateness, new_again, new_labels)
),
given AS MATERIALIZED (
    SELECT asked.*, now, timer.due_at AS old_due, timer.next_at AS old_next,
           timer.labels AS old_labels,
           coalesce(at_time, now + new_delay) IS NOT NULL AS moves,
           least(coalesce(at_time, now + new_delay, timer.due_at), latest)
               AS new_due,
           CASE WHEN queued_at IS NOT NULL
                THEN least(arrives_at, next_at) END AS comes_at
    FROM clock, asked JOIN timer ON timer.id = timer_id
    WHERE account_id = account AND {reading.IS_WAITING}
      AND (sent_at IS NULL OR retries > 0)
      AND version = coalesce(if_version, version)
    ORDER BY timer.id
    FOR UPDATE OF timer
),
planned AS MATERIALIZED (
    SELECT given.*, greatest(new_due, now) AS new_next,
           greatest(new_due, now) <= now + %(horizon)s AS is_near,
           coalesce(comes_at <= greatest(new_due, now), false) AS in_time
    FROM given
),
changed AS (
    UPDATE timer
    SET version = version + 1,
        url = CASE WHEN new_url IS NULL THEN url ELSE new_url END,
        host = CASE WHEN new_url IS NULL THEN host ELSE new_host END,
        method = CASE WHEN new_url IS NULL THEN method ELSE new_method END,
        headers = CASE WHEN new_url IS NULL THEN headers ELSE new_headers END,
        body = CASE WHEN new_url IS NULL THEN body ELSE new_body END,
        encrypted_with = CASE WHEN new_url IS NULL THEN encrypted_with
                              WHEN new_headers IS NOT NULL
                                   OR new_body IS NOT NULL
                              THEN %(encrypted_with)s::text END,
        retry = CASE WHEN new_url IS NULL THEN retry ELSE new_retry END,
        max_lateness = CASE WHEN new_url IS NULL THEN max_lateness
                            ELSE new_lateness END,
        at_least_once = CASE WHEN new_url IS NULL THEN at_least_once
                             ELSE new_again END,
        labels = CASE WHEN new_url IS NULL THEN labels ELSE new_labels END,
        due_at = new_due,
        next_at = CASE WHEN moves THEN new_next ELSE next_at END,
        queued_at = CASE WHEN NOT moves THEN queued_at
                         WHEN NOT is_near THEN NULL
                         WHEN in_time THEN queued_at
                         WHEN %(publishes)s THEN now END,
        arrives_at = CASE WHEN NOT moves THEN arrives_at
                          WHEN NOT is_near THEN '9999-01-01'::timestamptz
                          WHEN in_time THEN comes_at
                          ELSE new_next END,
        deferred = deferred AND NOT moves,
        connect_failures = CASE WHEN moves THEN 0 ELSE connect_failures END,
        retry_until = CASE WHEN moves THEN NULL ELSE retry_until END,
        replayed_at = CASE WHEN moves THEN NULL ELSE replayed_at END
    FROM planned WHERE timer.id = timer_id
    RETURNING {reading.SHOWN}, account_id, what, now, old_due, old_labels,
              moves AND is_near AND NOT in_time AS is_news
),
noted AS (
    INSERT INTO event (timer_id, at, what, old_at, new_at)
    SELECT id, now, what, CASE WHEN old_due <> due_at THEN old_due END,
           CASE WHEN old_due <> due_at THEN due_at END
    FROM changed
),
had AS MATERIALIZED (
    SELECT account_id, label.key, label.value, old_due, id
    FROM changed, jsonb_each_text(old_labels) AS label
),
has AS MATERIALIZED (
    SELECT account_id, label.key, label.value, due_at, id
    FROM changed, jsonb_each_text(labels) AS label
),
unlabelled AS (
    DELETE FROM timer_label
    WHERE (account_id, name, value, due_at, timer_id)
          IN (SELECT * FROM had EXCEPT SELECT * FROM has)
),
labelled AS (
    INSERT INTO timer_label (account_id, name, value, due_at, timer_id)
    SELECT * FROM has EXCEPT SELECT * FROM had
)
SELECT changed.*,
       CASE WHEN is_news AND NOT %(publishes)s
            THEN pg_notify('{CHANNEL}', '') END
FROM changed
"""


def change(changes: Sequence[Change]) -> list[Stored | None]:
    """Change waiting timers; None where a timer can't be changed any more.

    None also stands for a timer that has another version than is asked for.
    """
    rows: dict[int, Row | None] = {}
    numbers = range(len(changes))
    with pool().connection() as connection:
        for group in rounds(numbers, lambda number: [changes[number].id]):
            found = run(connection, [changes[number] for number in group])
            rows |= {number: found.get(changes[number].id) for number in group}
        clock = read_clock(connection)
    return [
        changed(row, clock) if (row := rows[number]) else None
        for number in numbers
    ]


def run(
    connection: Connection, changes: Sequence[Change], *, leaves: bool = False
) -> dict[UUID, Row]:
    """Run CHANGE; return its rows by the timers' ids, which must differ.

    leaves  whether near ones are left to the dispatcher, not published
    """
    ids = [each.id for each in changes]
    cursor = connection.execute(
        CHANGE,
        {
            **definitions(ids, [each.definition for each in changes]),
            "ids": ids,
            "accounts": [each.account for each in changes],
            "what": [each.what for each in changes],
            "versions": [each.version for each in changes],
            "delays": [each.delay for each in changes],
            "due_at": [each.due_at for each in changes],
            "latest_at": [each.latest_at for each in changes],
            "horizon": HORIZON,
            "publishes": bool(settings.RABBITMQ_URL) and not leaves,
        },
    )
    return {row["id"]: row for row in named(cursor)}


def changed(row: Row, clock: ClockReading) -> Stored:
    """Return what came of a change, from a row of CHANGE."""
    publish_at = None
    if row["is_news"] and settings.RABBITMQ_URL:
        publish_at = clock.to_monotonic(row["next_at"])
    return Stored(reading.stored_timer(row), publish_at, is_new=False)


def cancel(account: int, timer_id: UUID, version: int | None = None) -> bool:
    """Cancel a waiting timer; False when it isn't waiting any more.

    False as well if it has another version than the given one, or if it is
    another account's.

    A timer whose call failed, and is to be retried, is not called again. A
    timer that was called, and is sent again only because its worker died (at
    least once), can't be cancelled: it may have been received.

    The claim re-checks `outcome` under the row's lock. So if a cancel and a
    claim come at the same time, exactly one succeeds. Raises RowUnwritable.
    """
    with writing_one():
        return bool(_cancel(account, [timer_id], version))


def cancel_many(
    account: int,
    timer_ids: Sequence[UUID],
    logged: LoggedChange | None = None,
) -> set[UUID]:
    """Cancel an account's timers that wait; return which were cancelled.

    They are cancelled, and that is logged, 500 in a commit. A row that can't
    be written stays as it is.
    """
    cancel = partial(_cancel, account, logged=logged)
    return set(by_groups(cancel, timer_ids, skip))


def _cancel(
    account: int,
    timer_ids: Sequence[UUID],
    version: int | None = None,
    logged: LoggedChange | None = None,
) -> list[UUID]:
    values = {
        "account": account, "ids": list(timer_ids), "version": version,
    }
    with (
        pool().connection() as connection,
        connection.transaction() if logged else nullcontext(),
    ):
        rows = connection.execute(CANCEL, values).fetchall()
        if rows and logged:
            logged.log(connection, len(rows))
    return [timer_id for (timer_id,) in rows]

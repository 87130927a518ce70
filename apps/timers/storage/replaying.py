"""Opening timers again that gave up: replays."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import psycopg

from apps.accounts.log import LoggedChange
from apps.core.database import pool
from apps.timers.storage.aside import each_for_itself, skip, writing_one
from apps.timers.storage.limiting import Budgets, LimitReached
from apps.timers.storage.queueing import CHANNEL

#: A timer with this many attempts is not replayed. Replays in a loop would
#: call its receiver for ever.
MOST_ATTEMPTS = 1_000

# A timer stays as it is if another one has its key by now. Of several with one
# key, the latest is replayed.
# The numbers of the attempts go on. From now on, a late record or mark belongs
# to a lost claim: the token is gone.
LOCK_KEYS = """
SELECT FROM timer_key
WHERE account_id = ANY(ARRAY(
          SELECT DISTINCT account_id FROM timer WHERE id = ANY(%(ids)b)))
  AND key = ANY(ARRAY(SELECT key FROM timer WHERE id = ANY(%(ids)b)))
ORDER BY account_id, key
FOR UPDATE
"""
REPLAY = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now, pg_notify('{CHANNEL}', '')
),
wanted AS MATERIALIZED (
    SELECT id, key FROM timer
    WHERE id = ANY(%(ids)b) AND account_id = %(account)s
),
without_key AS MATERIALIZED (
    SELECT wanted.id FROM wanted JOIN timer_key USING (key)
           JOIN timer AS holder ON holder.id = timer_key.timer_id
    WHERE timer_key.account_id = %(account)s AND holder.outcome IS NULL
),
given_up AS MATERIALIZED (
    SELECT id, key FROM timer
    WHERE outcome IN ('failed', 'unknown', 'missed') AND id = ANY(%(ids)b)
      AND account_id = %(account)s
      AND attempts::bigint + claims < %(most)s AND erased_at IS NULL
      AND id NOT IN (SELECT id FROM without_key)
    ORDER BY id
    FOR UPDATE
),
chosen AS (
    SELECT DISTINCT ON (key, CASE WHEN key IS NULL THEN id END) id, key
    FROM given_up
    ORDER BY key, CASE WHEN key IS NULL THEN id END, id DESC
),
holding AS (
    UPDATE timer_key SET timer_id = chosen.id
    FROM chosen
    WHERE timer_key.account_id = %(account)s AND timer_key.key = chosen.key
),
opened AS (
    UPDATE timer
    SET outcome = NULL, error = NULL, status_code = NULL, deferred = false,
        fired_at = NULL, claim_token = NULL, leased_until = NULL,
        queued_at = NULL, sent_at = NULL, answered = NULL,
        retries = 0, connect_failures = 0, retry_until = NULL,
        attempts = attempts + claims, claims = 0,
        next_at = now, replayed_at = now, version = version + 1
    FROM clock, chosen WHERE timer.id = chosen.id
    RETURNING timer.id
),
noted AS (
    INSERT INTO event (timer_id, at, what)
    SELECT id, now, 'replayed' FROM opened, clock
)
SELECT id FROM opened
"""


def replay(
    account: int,
    timer_ids: Sequence[UUID],
    logged: LoggedChange | None = None,
    *,
    limited: bool = False,
) -> set[UUID]:
    """Open again an account's timers that gave up, due now; return which.

    If two calls replay a timer at the same time, one of them gets it. A timer
    with MOST_ATTEMPTS attempts stays as it is, and so does one whose row can't
    be written. `limited` says whether the account may have limits. Raises
    LimitReached; then none is opened.
    """
    run = partial(_replay, account, limited, logged)
    return set(each_for_itself(run, timer_ids, skip))


def replay_one(
    account: int, timer_id: UUID, *, limited: bool = False
) -> bool:
    """Replay one timer; tell whether it was opened again.

    Raises RowUnwritable or LimitReached.
    """
    with writing_one():
        return bool(_replay(account, limited, None, [timer_id]))


def _replay(
    account: int,
    limited: bool,
    logged: LoggedChange | None,
    timer_ids: Sequence[UUID],
) -> list[UUID]:
    values = {
        "account": account, "ids": list(timer_ids), "most": MOST_ATTEMPTS,
    }
    with pool().connection() as connection, connection.transaction():
        wanted = {account: len(timer_ids)} if limited else {}
        budgets = Budgets(connection, wanted)
        has_room = False
        with connection.transaction():
            connection.execute(LOCK_KEYS, values)
            rows = connection.execute(REPLAY, values).fetchall()
            has_room = budgets.take_room(account, len(rows))
            if not has_room:
                raise psycopg.Rollback
            if rows and logged:
                logged.log(connection, len(rows))
        budgets.keep()
    if not has_room:
        raise LimitReached(budgets.refused(account))
    return [timer_id for (timer_id,) in rows]

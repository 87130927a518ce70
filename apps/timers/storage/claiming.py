"""Claims: one worker gets a timer, holds it, and marks its request as sent.

`clock_timestamp()` decides, since a statement may have waited for a lock.
Rows are locked in the order of their ids: two groups that lock in opposite
orders deadlock. Every UPDATE re-checks, under its lock, the state that it is
for.

The SELECT around an array of ids hides its length from Postgres. Otherwise it
plans anew for each small group, which takes longer than the rest.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from apps.core.database import pool
from apps.core.rows import named
from apps.timers.models import Outcome
from apps.timers.storage import holding, reading
from apps.timers.storage.aside import each_for_itself, matched, set_aside
from apps.timers.storage.claim_records import (
    ClaimAnswer,
    ClaimRequest,
    Early,
    Held,
    Mark,
)
from apps.timers.storage.queueing import unqueue
from apps.timers.storage.records import read_clock

#: How long before its time a timer may be claimed; the worker waits out
#: the rest, so that the claim's own commit does not make the call late.
LEAD = timedelta(milliseconds=20)
#: How long a claim holds without a word from its worker.
LEASE = timedelta(seconds=20)

# A repeated claim with the same token succeeds again: its answer may have
# been lost. If a group has two requests for one free timer, the UPDATE takes
# one of them. The clock is read once: the statement may wait for a lock, and
# a timer that comes due meanwhile would be dropped, as not claimed and not
# early. During a hold nothing counts as due, and what is due is early, by a
# wait that is over.
CLAIM = f"""
WITH clock AS MATERIALIZED (
    SELECT CASE WHEN NOT EXISTS (SELECT FROM hold)
                THEN clock_timestamp() + %(lead)s END AS within
),
asked AS MATERIALIZED (
    SELECT * FROM unnest((SELECT %(ids)b::uuid[]), %(tokens)b::uuid[])
         AS asked (id, token)
),
free AS MATERIALIZED (
    SELECT timer.id, asked.token
    FROM asked JOIN timer USING (id)
    WHERE outcome IS NULL
      AND (claim_token = asked.token
           OR fired_at IS NULL AND next_at <= (SELECT within FROM clock))
    ORDER BY timer.id
    FOR UPDATE OF timer
),
claimed AS (
    UPDATE timer
    SET fired_at = coalesce(fired_at, greatest(next_at, clock_timestamp())),
        claim_token = free.token,
        leased_until = clock_timestamp() + %(lease)s,
        claims = claims
            + (claim_token IS DISTINCT FROM free.token)::int,
        deferred = false
    FROM free WHERE timer.id = free.id
    RETURNING {reading.CLAIMED}
),
early AS (
    SELECT token, next_at - clock_timestamp() AS wait,
           arrives_at IS NOT NULL AS moved
    FROM asked JOIN timer USING (id)
    WHERE {reading.IS_WAITING}
      AND next_at > coalesce((SELECT within FROM clock), '-infinity')
)
SELECT * FROM claimed FULL JOIN early USING (token)
"""

RENEW = """
WITH given AS MATERIALIZED (
    SELECT timer.id, token
    FROM unnest((SELECT %(ids)b::uuid[]), %(tokens)b::uuid[])
         AS given (timer_id, token)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    WHERE timer.outcome IS NULL
    ORDER BY timer.id
    FOR UPDATE OF timer
)
UPDATE timer SET leased_until = clock_timestamp() + %(lease)s
FROM given WHERE timer.id = given.id AND claim_token = token
RETURNING token
"""

MARK_SENT = """
WITH given AS MATERIALIZED (
    SELECT timer.id, token, given.sent_at, given.status_code
    FROM unnest((SELECT %(ids)b::uuid[]), %(tokens)b::uuid[],
                %(sent_at)b::timestamptz[], %(status_code)b::smallint[])
         AS given (timer_id, token, sent_at, status_code)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    WHERE timer.outcome IS NULL
    ORDER BY timer.id
    FOR UPDATE OF timer
)
UPDATE timer
SET sent_at = coalesce(given.sent_at, timer.sent_at),
    answered = given.status_code
FROM given WHERE timer.id = given.id AND claim_token = token
RETURNING token
"""


def claim(requests: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
    """Claim timers; the answers stand in the order of the requests.

    None also means that a timer ends here, since its row can't be used. Those
    that are held are queued no more: dispatchers queue them after the hold.
    """

    def bad(request: ClaimRequest, error: Exception) -> list[ClaimAnswer]:
        set_aside(request.id, error, token=request.token)
        return [None]

    return each_for_itself(_claim, requests, bad)


def _claim(requests: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
    with pool().connection() as connection:
        rows = named(
            connection.execute(
                CLAIM,
                {
                    "ids": [request.id for request in requests],
                    "tokens": [request.token for request in requests],
                    "lead": LEAD,
                    "lease": LEASE,
                },
            )
        )
        clock = read_clock(connection)
        answers: dict[UUID, ClaimAnswer] = {
            row["token"]: reading.claim_answer(row, clock) for row in rows
        }
        due = [
            request for request in requests
            if _is_due(answers.get(request.token))
        ]
        is_held = bool(due) and holding.read(connection) is not None
    if is_held:
        answers |= {request.token: Held() for request in due}
        unqueue([request.id for request in due])
    return [answers.get(request.token) for request in requests]


def _is_due(answer: ClaimAnswer) -> bool:
    """Tell whether a timer counts as early although it is due.

    It is held, or came due while the statement waited for a lock.
    """
    return isinstance(answer, Early) and answer.wait <= LEAD.total_seconds()


def renew(claims: Sequence[ClaimRequest]) -> list[bool]:
    """Let claims hold for a whole lease again; False where one was lost."""
    return matched(RENEW, claims, lambda _: {"lease": LEASE})


def mark_sent(marks: Sequence[Mark]) -> None:
    """Note that requests have left, or were answered.

    It has no effect once what came of them is recorded.
    """
    matched(
        MARK_SENT,
        marks,
        lambda some: {
            "sent_at": [mark.sent_at for mark in some],
            "status_code": [mark.status_code for mark in some],
        },
        lambda _: Outcome.UNKNOWN,
    )

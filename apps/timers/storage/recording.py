"""What came of a claim: the timer's end, or when it is tried again.

As in `claiming`, a SELECT around the ids lets Postgres keep its plan.
"""

from collections.abc import Sequence
from typing import Any

from apps.core.sealing import ring
from apps.timers.models import Outcome
from apps.timers.storage import sealed
from apps.timers.storage.aside import matched
from apps.timers.storage.claim_records import Postponement, Report

# A late record also corrects what was assumed about its attempt.
_KEEP_ATTEMPT = """
    INSERT INTO attempt (timer_id, number, due_at, sent_at, status_code,
                         error, duration, answer, encrypted_with)
    SELECT timer_id, number, due_at, sent_at, status_code, error, duration,
           answer,
           CASE WHEN answer IS NOT NULL THEN %(encrypted_with)s::text END
    FROM held WHERE number IS NOT NULL
    ON CONFLICT (timer_id, number) DO UPDATE
    SET due_at = excluded.due_at, sent_at = excluded.sent_at,
        status_code = excluded.status_code, error = excluded.error,
        duration = excluded.duration, answer = excluded.answer,
        encrypted_with = excluded.encrypted_with
"""

# `number` is NULL if no attempt was made. Then the status code of the last
# attempt stays. `error` also says why none was made. What is delivered is
# never called again, so its headers and body go; what gave up keeps them, to
# be replayed.
RECORD = f"""
WITH given AS MATERIALIZED (
    SELECT timer.id, given.*
    FROM unnest((SELECT %(ids)b::uuid[]), %(tokens)b::uuid[],
                %(outcome)b::text[],
                %(number)b::integer[], %(due_at)b::timestamptz[],
                %(sent_at)b::timestamptz[], %(status_code)b::smallint[],
                %(error)b::text[], %(duration)b::interval[],
                %(answer)b::bytea[])
         AS given (timer_id, token, outcome, number, due_at, sent_at,
                   status_code, error, duration, answer)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    WHERE timer.outcome IS NULL OR %(ended_too)s
    ORDER BY timer.id
    FOR UPDATE OF timer
),
held AS (
    UPDATE timer
    SET outcome = given.outcome,
        leased_until = NULL,
        claims = claims - (number IS NULL AND timer.outcome IS NULL)::int,
        error = given.error,
        status_code = CASE WHEN number IS NULL THEN timer.status_code
                           ELSE given.status_code END,
        sent_at = coalesce(given.sent_at, timer.sent_at),
        answered = NULL,
        headers = CASE WHEN given.outcome <> 'delivered' THEN headers END,
        body = CASE WHEN given.outcome <> 'delivered' THEN body END,
        encrypted_with = CASE WHEN given.outcome <> 'delivered'
                              THEN encrypted_with END
    FROM given WHERE timer.id = given.id AND claim_token = token
    RETURNING given.*
),
kept AS ({_KEEP_ATTEMPT})
SELECT token FROM held
"""

# `claims` counts the workers that died before this one, and this one. This one
# counts as an attempt only if it tried; if it did not, the timer is deferred.
POSTPONE = f"""
WITH given AS MATERIALIZED (
    SELECT timer.id, given.*
    FROM unnest((SELECT %(ids)b::uuid[]), %(tokens)b::uuid[],
                %(delay)b::interval[],
                %(connect_failures)b::integer[],
                %(retry_until)b::timestamptz[], %(retries)b::integer[],
                %(number)b::integer[], %(due_at)b::timestamptz[],
                %(sent_at)b::timestamptz[], %(status_code)b::smallint[],
                %(error)b::text[], %(duration)b::interval[],
                %(answer)b::bytea[])
         AS given (timer_id, token, delay, connect_failures, retry_until,
                   retries, number, due_at, sent_at, status_code, error,
                   duration, answer)
    JOIN timer ON timer.id = timer_id AND claim_token = token
    WHERE timer.outcome IS NULL
    ORDER BY timer.id
    FOR UPDATE OF timer
),
held AS (
    UPDATE timer
    SET fired_at = NULL, claim_token = NULL, leased_until = NULL,
        queued_at = NULL, claims = 0,
        next_at = clock_timestamp() + delay,
        attempts = attempts + claims - (number IS NULL)::int,
        deferred = number IS NULL,
        connect_failures = given.connect_failures,
        retry_until = given.retry_until,
        retries = given.retries,
        error = given.error,
        status_code = CASE WHEN number IS NULL THEN timer.status_code
                           ELSE given.status_code END,
        sent_at = coalesce(given.sent_at, timer.sent_at),
        answered = NULL
    FROM given WHERE timer.id = given.id AND claim_token = token
    RETURNING given.*
),
kept AS ({_KEEP_ATTEMPT})
SELECT token FROM held
"""

_ATTEMPT = ("number", "due_at", "sent_at", "status_code", "duration", "answer")
_POSTPONED = ("delay", "connect_failures", "retry_until", "retries")


def record(reports: Sequence[Report]) -> list[bool]:
    """Record how timers ended; False where the claim was lost by then.

    Repeating a record is harmless. A late record replaces the `unknown` of
    its own claim with the answer.
    """
    return _record(reports, ended_too=True)


def record_for_the_dead(reports: Sequence[Report]) -> list[bool]:
    """Record how `answered` timers ended; False where that is known.

    The worker's own record, if it came meanwhile, says more and stays.
    """
    return _record(reports, ended_too=False)


def _record(reports: Sequence[Report], *, ended_too: bool) -> list[bool]:
    def columns(some: Sequence[Report]) -> dict[str, Any]:
        return {
            "outcome": [report.outcome.value for report in some],
            "ended_too": ended_too,
            **_last_attempts(some),
        }

    return matched(RECORD, reports, columns, lambda report: report.outcome)


def postpone(timers: Sequence[Postponement]) -> list[bool]:
    """Open claimed timers again for a later try; False for lost claims.

    Their `next_at` moves, so that nothing takes them for overdue.
    """

    def columns(some: Sequence[Postponement]) -> dict[str, Any]:
        return {
            name: [getattr(timer, name) for timer in some]
            for name in _POSTPONED
        } | _last_attempts(some)

    return matched(POSTPONE, timers, columns, lambda _: Outcome.FAILED)


def _last_attempts(items: Sequence[Report | Postponement]) -> dict[str, Any]:
    """Return the columns of attempts, NULL where none was made.

    Answers are encrypted, if there is a key for that.
    """
    columns: dict[str, Any] = {
        name: [
            item.attempt and getattr(item.attempt, name) for item in items
        ]
        for name in _ATTEMPT
    }
    columns["error"] = [item.error for item in items]
    keys = ring()
    columns["encrypted_with"] = keys.current
    if keys.current is not None:
        columns["answer"] = [
            None if item.attempt is None or item.attempt.answer is None
            else keys.seal(
                item.attempt.answer,
                sealed.answer_place(item.id, item.attempt.number),
            )
            for item in items
        ]
    return columns

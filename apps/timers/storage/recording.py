"""What came of a claim: the timer's end, or when it is tried again.

As in `claiming`, a SELECT around the ids lets Postgres keep its plan.
"""

from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import Any

from apps.core.sealing import ring
from apps.timers.models import Outcome
from apps.timers.storage import sealed
from apps.timers.storage.aside import matched
from apps.timers.storage.claim_records import Postponement, Report

# Each claim has a number of its own. To look whether there is an attempt with
# that number costs twice as much as the tally.
_KEEP_ATTEMPT = """
    INSERT INTO attempt (timer_id, number, due_at, sent_at, status_code,
                         error, duration, answer, encrypted_with)
    SELECT timer_id, number, due_at, sent_at, status_code, error, duration,
           answer,
           CASE WHEN answer IS NOT NULL THEN %(encrypted_with)s::text END
    FROM held WHERE number IS NOT NULL
"""
# A late record also corrects what was assumed about its attempt.
_CORRECT_ATTEMPT = f"""
    {_KEEP_ATTEMPT}
    ON CONFLICT (timer_id, number) DO UPDATE
    SET due_at = excluded.due_at, sent_at = excluded.sent_at,
        status_code = excluded.status_code, error = excluded.error,
        duration = excluded.duration, answer = excluded.answer,
        encrypted_with = excluded.encrypted_with
"""
# What the roll-ups are made of (apps/monitoring/rollups).
_TALLY = """
    INSERT INTO tally (at, account_id, host, outcome, due_at, sent_at,
                       duration, status_code, failure, times)
    SELECT now(), account_id, host, outcome, due_at, sent_at, duration,
           status_code,
           CASE WHEN number IS NOT NULL AND status_code IS NULL
                THEN split_part(error, ':', 1) END, 1
    FROM held
"""

# A late record replaces the result that was assumed. So a tally with -1 takes
# the assumed result out of the roll-ups again.
_CORRECT_TALLY = f"""
    {_TALLY}
    UNION ALL
    SELECT now(), account_id, host, was, old.due_at, old.sent_at,
           old.duration, old.status_code,
           CASE WHEN old.status_code IS NULL
                THEN split_part(old.error, ':', 1) END, -1
    FROM held LEFT JOIN attempt AS old USING (timer_id, number)
"""


def _record(state: str, attempt: str, tally: str) -> str:
    """Return the statement that records how timers in a state have ended.

    `number` is NULL if no attempt was made. Then the status code of the last
    attempt stays. `error` also says why none was made. What is delivered is
    never called again, so its headers and body go; what gave up keeps them,
    to be replayed.
    """
    return f"""
    WITH given AS MATERIALIZED (
        SELECT timer.id, timer.outcome AS was, given.*
        FROM unnest((SELECT %(ids)b::uuid[]), %(tokens)b::uuid[],
                    %(outcome)b::text[],
                    %(number)b::integer[], %(due_at)b::timestamptz[],
                    %(sent_at)b::timestamptz[], %(status_code)b::smallint[],
                    %(error)b::text[], %(duration)b::interval[],
                    %(answer)b::bytea[])
             AS given (timer_id, token, outcome, number, due_at, sent_at,
                       status_code, error, duration, answer)
        JOIN timer ON timer.id = timer_id AND claim_token = token
        WHERE {state}
        ORDER BY timer.id
        FOR UPDATE OF timer
    ),
    held AS (
        UPDATE timer
        SET outcome = given.outcome,
            leased_until = NULL,
            claims = claims - (number IS NULL AND was IS NULL)::int,
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
        RETURNING given.*, account_id, host
    ),
    kept AS ({attempt}),
    tallied AS ({tally})
    SELECT token FROM held
    """


RECORD = _record("timer.outcome IS NULL", _KEEP_ATTEMPT, _TALLY)
# For num_nulls see `reading.IS_WAITING`.
CORRECT = _record(
    "num_nulls(timer.outcome) = 0", _CORRECT_ATTEMPT, _CORRECT_TALLY
)

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
    RETURNING given.*, NULL AS outcome, account_id, host
),
kept AS ({_CORRECT_ATTEMPT}),
tallied AS ({_TALLY} WHERE number IS NOT NULL)
SELECT token FROM held
"""

_ATTEMPT = ("number", "due_at", "sent_at", "status_code", "duration", "answer")
_POSTPONED = ("delay", "connect_failures", "retry_until", "retries")


def record(reports: Sequence[Report]) -> list[bool]:
    """Record how timers ended; False where the claim was lost by then.

    Repeating a record is harmless. A late record replaces the `unknown` of
    its own claim with the answer.
    """
    done = _ended(RECORD, reports)
    if all(done):
        return done
    late = iter(_ended(CORRECT, [*compress(reports, map(not_, done))]))
    return [is_done or next(late) for is_done in done]


def record_for_the_dead(reports: Sequence[Report]) -> list[bool]:
    """Record how `answered` timers ended; False where that is known.

    The worker's own record, if it came meanwhile, says more and stays.
    """
    return _ended(RECORD, reports)


def _ended(query: str, reports: Sequence[Report]) -> list[bool]:
    def columns(some: Sequence[Report]) -> dict[str, Any]:
        return {
            "outcome": [report.outcome.value for report in some],
            **_last_attempts(some),
        }

    return matched(query, reports, columns, lambda report: report.outcome)


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

"""The statements that create, change and find timers.

Postgres's clock decides everything; `clock_timestamp()` is used where a
statement may have waited for a lock, `now()` where an index must serve
(a volatile function can't be an index condition). Rows are locked in the
order of their ids, since two groups that lock in opposite orders
deadlock. Every UPDATE re-checks, under its lock, the state that it is for.
"""

from collections.abc import Mapping
from types import MappingProxyType

from apps.timers.models import GAVE_UP, Outcome

#: Dispatchers and feeders listen here.
CHANNEL = "timers_near"

_WAITING = "fired_at IS NULL AND outcome IS NULL"

# Statements that find their rows themselves leave out the skipped ones
# (`aside.Skipped`).
_NOT_SKIPPED = "id <> ALL(%(skipped)b::uuid[])"


def among(finding: str) -> str:
    """Return such a statement for rows that are given, as `ids`."""
    return finding.replace(_NOT_SKIPPED, "id = ANY(%(ids)b::uuid[])")


def _ids(where: str, order: str = "next_at") -> str:
    """Return a query for only the ids of the rows such a statement finds."""
    return f"""
    SELECT id FROM timer WHERE {where} AND {_NOT_SKIPPED}
    ORDER BY {order} LIMIT %(limit)s
    """


CREATE = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now,
           CASE WHEN %(notify)s THEN pg_notify('{CHANNEL}', '') END
),
stored AS (
    INSERT INTO timer (id, url, host, method, headers, body, retry,
                       max_lateness, created_at, due_at, next_at, queued_at,
                       at_least_once)
    SELECT id, url, host, method, headers, body, retry, max_lateness,
           now, now + delay, now + delay,
           CASE WHEN queued THEN now END, at_least_once
    FROM clock, unnest(%(ids)b::uuid[], %(urls)b::text[], %(hosts)b::text[],
                       %(methods)b::text[], %(headers)b::jsonb[],
                       %(bodies)b::bytea[], %(retries)b::jsonb[],
                       %(lateness)b::interval[], %(delays)b::interval[],
                       %(queued)b::boolean[], %(again)b::boolean[])
         AS new (id, url, host, method, headers, body, retry, max_lateness,
                 delay, queued, at_least_once)
)
SELECT now FROM clock
"""

#: What the API shows of a timer: `records.StoredTimer`, in its order. It can
#: be computed whatever a row holds.
_SHOWN = """
    retry, id, url, method,
    greatest(0, ceil(extract(
        epoch FROM least(greatest(due_at, 'epoch'), '9999-12-31T00:00Z')
                   - clock_timestamp()
    )))::bigint,
    created_at, due_at, next_at, fired_at, sent_at, outcome, status_code,
    error, at_least_once, max_lateness, attempts::bigint + claims
"""

GET = f"SELECT {_SHOWN} FROM timer WHERE id = %(id)s"

#: A claim: `records.Claim`, in its order, as `reading.claim` takes it.
_CLAIM = """
    method, headers, body, retry, timer.id, claim_token, url, created_at,
    due_at, next_at, coalesce(replayed_at, due_at) + max_lateness,
    connect_failures, retry_until, attempts, claims, retries,
    sent_at IS NOT NULL
"""

# A repeated claim with the same token succeeds again: its answer may have
# been lost. If a group has two requests for one free timer, the UPDATE takes
# one of them. The clock is read once: the statement may wait for a lock, and
# a timer that comes due meanwhile would be dropped, as not claimed and not
# early.
CLAIM = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() + %(lead)s AS within
),
asked AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)b::uuid[], %(tokens)b::uuid[])
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
    SET fired_at = greatest(next_at, clock_timestamp()),
        claim_token = free.token,
        leased_until = clock_timestamp() + %(lease)s,
        claims = claims
            + (claim_token IS DISTINCT FROM free.token)::int
    FROM free WHERE timer.id = free.id
    RETURNING {_CLAIM}
)
SELECT claim_token, NULL AS wait, claimed.* FROM claimed
UNION ALL
SELECT token, next_at - clock_timestamp(),
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM asked JOIN timer USING (id)
WHERE {_WAITING} AND next_at > (SELECT within FROM clock)
"""


def _by_holder(
    changes: str,
    given: Mapping[str, str] = MappingProxyType({}),
    *,
    ended_too: bool = False,
    then: str = "",
) -> str:
    """Return an UPDATE of the claims whose tokens still match.

    `given` has the names and types of the values that come with each claim,
    besides its id and token. `then` is more SQL, for the claims that are
    `held`. The statement returns their tokens.
    """
    arrays = "".join(f", %({name})b::{kind}[]" for name, kind in given.items())
    names = "".join(f", {name}" for name in given)
    return f"""
    WITH given AS MATERIALIZED (
        SELECT timer.id, given.*
        FROM unnest(%(ids)b::uuid[], %(tokens)b::uuid[]{arrays})
             AS given (timer_id, token{names})
        JOIN timer ON timer.id = timer_id AND claim_token = token
        {"" if ended_too else "WHERE timer.outcome IS NULL"}
        ORDER BY timer.id
        FOR UPDATE OF timer
    ),
    held AS (
        UPDATE timer SET {changes}
        FROM given WHERE timer.id = given.id AND claim_token = token
        RETURNING given.*
    ){then}
    SELECT token FROM held
    """


RENEW = _by_holder("leased_until = clock_timestamp() + %(lease)s")

MARK_SENT = _by_holder(
    """
    sent_at = coalesce(given.sent_at, timer.sent_at),
    answered = given.status_code
    """,
    {"sent_at": "timestamptz", "status_code": "smallint"},
)

#: An attempt: `records.Attempt`, whose number is NULL if none was made.
_ATTEMPT = {
    "number": "integer",
    "due_at": "timestamptz",
    "sent_at": "timestamptz",
    "status_code": "smallint",
    "error": "text",
    "duration": "interval",
    "answer": "bytea",
}
#: What a timer shows of its last attempt; also says why none was made.
_LAST_ATTEMPT = """
    error = given.error,
    status_code = CASE WHEN number IS NULL THEN timer.status_code
                       ELSE given.status_code END,
    sent_at = coalesce(given.sent_at, timer.sent_at),
    answered = NULL
"""
# A late record also corrects what was assumed about its attempt.
_KEEP_ATTEMPT = f""",
    kept AS (
        INSERT INTO attempt (timer_id, {", ".join(_ATTEMPT)})
        SELECT timer_id, {", ".join(_ATTEMPT)} FROM held
        WHERE number IS NOT NULL
        ON CONFLICT (timer_id, number) DO UPDATE SET {", ".join(
            f"{name} = excluded.{name}" for name in _ATTEMPT
        )}
    )"""

_END = f"""
    outcome = given.outcome, leased_until = NULL,
    claims = claims
        - (number IS NULL AND timer.outcome IS NULL)::int,
    {_LAST_ATTEMPT}
"""
_REPORT = {"outcome": "text", **_ATTEMPT}

RECORD = _by_holder(_END, _REPORT, ended_too=True, then=_KEEP_ATTEMPT)
# The worker's own record, if it came meanwhile, says more and stays.
RECORD_FOR_THE_DEAD = _by_holder(_END, _REPORT, then=_KEEP_ATTEMPT)

# `claims` counts the workers that died before this one, and this one. This one
# counts as an attempt only if it tried.
POSTPONE = _by_holder(
    f"""
    fired_at = NULL, claim_token = NULL, leased_until = NULL,
    queued_at = NULL, claims = 0, next_at = clock_timestamp() + delay,
    attempts = attempts + claims - (number IS NULL)::int,
    connect_failures = given.connect_failures,
    retry_until = given.retry_until, retries = given.retries,
    {_LAST_ATTEMPT}
    """,
    {
        "delay": "interval",
        "connect_failures": "integer",
        "retry_until": "timestamptz",
        "retries": "integer",
        **_ATTEMPT,
    },
    then=_KEEP_ATTEMPT,
)

# A timer that is to be retried may have been called. It can be cancelled all
# the same: it is not called again.
CANCEL = f"""
UPDATE timer
SET outcome = '{Outcome.CANCELLED.value}', queued_at = NULL
WHERE id = %s AND {_WAITING} AND (sent_at IS NULL OR retries > 0)
"""

UNQUEUE = f"""
WITH unsent AS MATERIALIZED (
    SELECT id FROM timer WHERE id = ANY(%(ids)b) AND {_WAITING}
    ORDER BY id
    FOR UPDATE
)
UPDATE timer SET queued_at = NULL FROM unsent WHERE timer.id = unsent.id
"""

# Overdue timers and near timers are asked for separately: a backlog of one
# kind never delays the other.
_OVERDUE = "next_at < now() - %(overdue_after)s"
_AHEAD = (
    "next_at >= now() - %(overdue_after)s AND next_at < now() + %(ahead)s"
)
# Python has no moment for '-infinity' or for any time before Christ.
_SINCE_1970 = "greatest(next_at, 'epoch')"


def _promote_sql(span: str) -> str:
    return f"""
    WITH near AS MATERIALIZED (
        SELECT id FROM timer
        WHERE {_WAITING} AND queued_at IS NULL AND {span}
          AND {_NOT_SKIPPED}
        ORDER BY next_at LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE timer SET queued_at = clock_timestamp()
    FROM near WHERE timer.id = near.id
    RETURNING timer.id, {_SINCE_1970}
    """


def _due_sql(span: str) -> str:
    return f"""
    SELECT id, {_SINCE_1970} FROM timer
    WHERE {_WAITING} AND queued_at IS NULL AND {span}
      AND {_NOT_SKIPPED}
    ORDER BY next_at LIMIT %(limit)s
    """


UNQUEUED_IDS = {
    overdue: _ids(f"{_WAITING} AND queued_at IS NULL AND {span}")
    for overdue, span in ((True, _OVERDUE), (False, _AHEAD))
}
PROMOTE = {True: _promote_sql(_OVERDUE), False: _promote_sql(_AHEAD)}
DUE = {True: _due_sql(_OVERDUE), False: _due_sql(_AHEAD)}

# A mark is in the future if the clock was set back since.
_LOST = f"""
    {_WAITING} AND queued_at IS NOT NULL
    AND next_at < now() - %(lost_after)s
    AND (CASE WHEN %(idle)s THEN queued_at ELSE greatest(queued_at, next_at)
         END < now() - %(requeue_after)s
         OR queued_at > now() + %(requeue_after)s)
"""
LOST_IDS = _ids(_LOST)
LOST = f"""
WITH lost AS MATERIALIZED (
    SELECT id FROM timer WHERE {_LOST} AND {_NOT_SKIPPED}
    ORDER BY next_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE timer SET queued_at = clock_timestamp()
FROM lost WHERE timer.id = lost.id
RETURNING timer.id, {_SINCE_1970}
"""

_LEASE_ENDED = "leased_until < now() AND outcome IS NULL"
LEASED_IDS = _ids(_LEASE_ENDED, "leased_until")
#: No claim is taken over soon after a start of Postgres, or during a stall.
_TO_TAKE_OVER = f"""
    {_LEASE_ENDED}
      AND now() - pg_postmaster_start_time() > %(settle)s
      AND now() - %(asked)s < %(stall)s
      AND {_NOT_SKIPPED}
"""
#: When this claim's request left; NULL if that is not known.
_LEFT_AT = "CASE WHEN sent_at >= fired_at THEN sent_at END"

# Claims of dead workers that got an answer. Its status decides what follows.
ANSWERED = f"""
SELECT id, answered, {_LEFT_AT}, {_CLAIM}
FROM timer
WHERE {_TO_TAKE_OVER} AND answered IS NOT NULL
ORDER BY leased_until LIMIT %(limit)s
"""

# Each CASE reads the state that the lock protects. A timer that gave up or may
# have been sent keeps its token: a late record still finds it. A timer that is
# opened again loses its token: a late record does not find it. It keeps its
# `sent_at`, though: it can't be cancelled any more, and if it gives up later,
# it may have been received. A `sent_at` before `next_at` belongs to an attempt
# whose answer is known, unless the timer asks for more (at least once).
TAKE_OVER = f"""
WITH ended AS MATERIALIZED (
    SELECT id,
           CASE WHEN NOT at_least_once AND sent_at >= next_at
                THEN '{Outcome.UNKNOWN.value}'
                WHEN claims > %(most)s AND at_least_once
                     AND sent_at IS NOT NULL
                THEN '{Outcome.UNKNOWN.value}'
                WHEN claims > %(most)s THEN '{Outcome.FAILED.value}'
           END AS decision,
           attempts + claims AS number, next_at AS tried_at,
           {_LEFT_AT} AS left_at
    FROM timer
    WHERE {_TO_TAKE_OVER} AND answered IS NULL
    ORDER BY leased_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
over AS (
    UPDATE timer
    SET leased_until = NULL,
        queued_at = NULL,
        outcome = decision,
        error = CASE decision
            WHEN '{Outcome.UNKNOWN.value}'
                THEN 'unknown: the worker died after the request had left'
            WHEN '{Outcome.FAILED.value}'
                THEN 'worker_lost: ' || claims || ' workers died before the'
                     ' call'
            ELSE timer.error
            END,
        fired_at = CASE WHEN decision IS NOT NULL THEN fired_at END,
        claim_token = CASE WHEN decision IS NOT NULL THEN claim_token END
    FROM ended WHERE timer.id = ended.id
    RETURNING ended.*
),
kept AS (
    INSERT INTO attempt (timer_id, number, due_at, sent_at, error)
    SELECT id, number, tried_at, left_at,
           CASE WHEN left_at IS NULL
                THEN 'worker_lost: the worker died before the call'
                ELSE 'unknown: the worker died after the request had left'
           END
    FROM over
    ON CONFLICT DO NOTHING
)
SELECT id, decision FROM over
"""

# Only SQL by hand makes such rows; otherwise `timer_unleased` is empty. With
# parameters instead of '1 min' and 500, Postgres plans this anew each time,
# which takes ten times as long.
_NEVER_DUE = f"{_WAITING} AND next_at > '9999-12-30T00:00Z'"
_UNLEASED = (
    "fired_at IS NOT NULL AND outcome IS NULL AND leased_until IS NULL"
)
_LEASED_TOO_LONG = "leased_until > now() + interval '1 min'"
#: Rows that no other statement would find again, and whether the fault is in
#: their lease. Each part is an index scan.
STUCK = " UNION ALL ".join(
    f"""
    (SELECT id, {is_leased} FROM timer WHERE {where} AND {_NOT_SKIPPED}
     ORDER BY {order} LIMIT 500)
    """
    for where, order, is_leased in (
        (f"{_NEVER_DUE} AND queued_at IS NULL", "next_at", False),
        (f"{_NEVER_DUE} AND queued_at IS NOT NULL", "next_at", False),
        (_LEASED_TOO_LONG, "leased_until", True),
        ("leased_until < now() AND outcome IS NOT NULL", "leased_until", True),
        (_UNLEASED, "fired_at", True),
    )
)
LIMIT_LEASES = f"""
WITH wrong AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b)
      AND ({_LEASED_TOO_LONG} OR {_UNLEASED}
           OR leased_until IS NOT NULL AND outcome IS NOT NULL)
    ORDER BY id
    FOR UPDATE SKIP LOCKED
)
UPDATE timer
SET leased_until = CASE WHEN fired_at IS NOT NULL AND outcome IS NULL
                        THEN clock_timestamp() + %(lease)s END
FROM wrong WHERE timer.id = wrong.id
"""

# Ends a bad row's timer, if nobody else has claimed it meanwhile. A marked one
# may have been received.
SET_ASIDE = f"""
UPDATE timer
SET outcome = coalesce(%(outcome)s, CASE WHEN sent_at >= next_at
                                         THEN '{Outcome.UNKNOWN.value}'
                                         ELSE '{Outcome.FAILED.value}' END),
    error = %(error)s, leased_until = NULL, queued_at = NULL
WHERE id = %(id)s AND outcome IS NULL
  AND (claim_token = %(token)s::uuid
       OR %(free)s AND (fired_at IS NULL OR leased_until < now()))
"""

# Two halves, since each of the two partial indexes serves only one.
COUNT = f"""
SELECT count(*) FILTER (WHERE next_at < now()),
       count(*) FILTER (WHERE next_at >= now())
FROM (
    SELECT next_at FROM timer
    WHERE {_WAITING} AND queued_at IS NULL AND next_at < now() + %(ahead)s
    UNION ALL
    SELECT next_at FROM timer
    WHERE {_WAITING} AND queued_at IS NOT NULL AND next_at < now() + %(ahead)s
) AS near
"""

ATTEMPTS = f"""
SELECT {", ".join(_ATTEMPT)} FROM attempt WHERE timer_id = %(id)s
ORDER BY number
"""

_GAVE_UP = "outcome IN ({})".format(
    ", ".join(f"'{outcome.value}'" for outcome in GAVE_UP)
)


# A missing bound becomes one that all timers meet: no index could serve an OR.
# Postgres takes a bare pattern for one that matches next to nothing, and would
# read all sleeping timers to find that.
def _failed_sql(host: str = "") -> str:
    return f"""
    SELECT {_SHOWN} FROM timer
    WHERE {_GAVE_UP} AND outcome = ANY(%(outcomes)s) {host}
      AND due_at >= coalesce(%(since)s::timestamptz, '-infinity')
      AND due_at <= coalesce(
          %(until)s::timestamptz - interval '1 microsecond', 'infinity'
      )
      AND (due_at, id) > (
          coalesce((SELECT due_at FROM timer WHERE id = %(after)s),
                   '-infinity'),
          coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
      )
    ORDER BY due_at, id LIMIT %(limit)s
    """


FAILED = _failed_sql()
FAILED_AT_HOST = _failed_sql(
    "AND host = %(host)s AND coalesce(url ~* %(port)s, false)"
)


def port_pattern(port: int | None) -> str:
    """Return a pattern for URLs with a port, in any case; None: all match."""
    if port is None:
        return ""
    host = r"(\[[^]]*]|[^][/?#:]*)"
    ways = (
        f"{scheme}://{host}(:0*{port}){'?' if port == default else ''}"
        for scheme, default in (("http", 80), ("https", 443))
    )
    return f"^({'|'.join(ways)})([/?#]|$)"


# The numbers of the attempts go on. From now on, a late record or mark belongs
# to a lost claim: the token is gone.
REPLAY = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now, pg_notify('{CHANNEL}', '')
),
given_up AS MATERIALIZED (
    SELECT id FROM timer
    WHERE {_GAVE_UP} AND id = ANY(%(ids)b)
      AND attempts::bigint + claims < %(most)s
    ORDER BY id
    FOR UPDATE
)
UPDATE timer
SET outcome = NULL, error = NULL, status_code = NULL,
    fired_at = NULL, claim_token = NULL, leased_until = NULL,
    queued_at = NULL, sent_at = NULL, answered = NULL,
    retries = 0, connect_failures = 0, retry_until = NULL,
    attempts = attempts + claims, claims = 0,
    next_at = now, replayed_at = now
FROM clock, given_up WHERE timer.id = given_up.id
RETURNING timer.id
"""

"""Guards of storage and of fire, and how to take each away."""

from apps.timers import decisions
from apps.timers.firing import call, claims, fire
from apps.timers.scheduling import dispatcher
from apps.timers.storage import (
    changing,
    claiming,
    queueing,
    recording,
    taking_over,
)
from apps.timers.storage.reading import IS_WAITING
from tests.model.mutation import Mutation
from tests.model.mutations_of_callers import MUTATIONS_OF_CALLERS

_STORAGE = (changing, claiming, queueing, recording, taking_over)


def _sql(name: str, *changes: tuple[str, str]) -> Mutation:
    module = next(each for each in _STORAGE if hasattr(each, name))
    return Mutation(module, name, changes)


def _claims(name: str, *changes: tuple[str, str]) -> Mutation:
    return Mutation(claims, name, changes)


def _call(name: str, *changes: tuple[str, str]) -> Mutation:
    return Mutation(call, f"Call.{name}", changes)


def _fire(name: str, *changes: tuple[str, str]) -> Mutation:
    return Mutation(fire, name, changes)


def _decision(name: str, *changes: tuple[str, str]) -> Mutation:
    return Mutation(decisions, name, changes)


_TOKEN = " AND claim_token = token"
_OUTCOME = "WHERE timer.outcome IS NULL"
_LEFT_AT = "CASE WHEN sent_at >= fired_at THEN sent_at END"
_CORRECTING = ("= excluded.", "= attempt.")

#: Without any one of these the model finds a promise broken.
MUTATIONS = {
    "a claim looks at the outcome": _sql(
        "CLAIM", ("WHERE outcome IS NULL AND", "WHERE"),
    ),
    "a claim looks for other claims": _sql(
        "CLAIM", ("OR fired_at IS NULL AND", "OR"),
    ),
    "a claim looks at the time": _sql(
        "CLAIM", ("AND next_at <= (SELECT within FROM clock)", ""),
    ),
    "a claim looks for a hold": _sql(
        "CLAIM", ("WHEN NOT EXISTS (SELECT FROM hold)", "WHEN true"),
    ),
    "a claim repeated with its token succeeds": _sql(
        "CLAIM", ("claim_token = asked.token OR ", ""),
    ),
    "a claim repeated with its token keeps its time": _sql(
        "CLAIM", ("coalesce(fired_at, greatest(next_at, clock_timestamp()))",
                  "greatest(next_at, clock_timestamp())"),
    ),
    "a record matches the token": _sql("RECORD", (_TOKEN, "")),
    "a mark looks at the outcome": _sql("MARK_SENT", (_OUTCOME, "")),
    "a renewal matches the token": _sql("RENEW", (_TOKEN, "")),
    "a renewal looks at the outcome": _sql("RENEW", (_OUTCOME, "")),
    "a renewal renews": _sql(
        "RENEW", ("clock_timestamp() + %(lease)s", "leased_until"),
    ),
    "a postponement matches the token": _sql("POSTPONE", (_TOKEN, "")),
    "a postponement looks at the outcome": _sql("POSTPONE", (_OUTCOME, "")),
    "a postponement ends the claim": _sql(
        "POSTPONE", ("fired_at = NULL, ", ""),
    ),
    "a postponement takes the token away": _sql(
        "POSTPONE", ("claim_token = NULL, ", ""),
    ),
    "a postponement takes the lease away": _sql(
        "POSTPONE", ("leased_until = NULL,", ""),
    ),
    "a postponement is no crash": _sql("POSTPONE", ("claims = 0, ", "")),
    "a cancel looks for claims": _sql(
        "CANCEL", (IS_WAITING, "outcome IS NULL"),
    ),
    "a cancel looks at the mark": _sql(
        "CANCEL", ("sent_at IS NULL OR", "true OR"),
    ),
    "a move looks for claims": _sql(
        "CHANGE", (IS_WAITING, "outcome IS NULL"),
    ),
    "a move looks for the end": _sql(
        "CHANGE", (IS_WAITING, "fired_at IS NULL"),
    ),
    "a move looks at the mark": _sql(
        "CHANGE", ("sent_at IS NULL OR", "true OR"),
    ),
    "a moved timer's time moves": _sql(
        "CHANGE",
        ("CASE WHEN moves THEN new_next ELSE next_at END", "next_at"),
    ),
    "a moved timer may be late from its new time": _sql(
        "CHANGE", ("due_at = new_due", "due_at = timer.due_at"),
    ),
    "a moved timer has patience of its own": _sql(
        "CHANGE", (
            "CASE WHEN moves THEN NULL ELSE retry_until END", "retry_until",
        ),
    ),
    "taking over looks at the mark": _sql(
        "TAKE_OVER", ("NOT at_least_once", "false"),
    ),
    "taking over looks at who wants it sent again": _sql(
        "TAKE_OVER", ("NOT at_least_once", "true"),
    ),
    "taking over leaves what was answered": _sql(
        "TAKE_OVER", ("AND answered IS NULL", ""),
    ),
    "a postponement forgets the answer": _sql(
        "POSTPONE", ("answered = NULL", "answered = timer.answered"),
    ),
    "an answered claim's lease is looked at": _sql(
        "ANSWERED", ("leased_until < now()", "leased_until IS NOT NULL"),
    ),
    "taking over looks at the lease": _sql(
        "TAKE_OVER", ("leased_until < now()", "leased_until IS NOT NULL"),
    ),
    "taking over waits after Postgres's start": _sql(
        "TAKE_OVER",
        ("AND now() - pg_postmaster_start_time() > %(settle)s",
         "AND %(settle)s::interval IS NOT NULL"),
    ),
    "taking over waits after an outage": Mutation(
        dispatcher,
        "take_over",
        (("POSTGRES.ended_within(taking_over.SETTLE.total_seconds())",
          "False"),),
    ),
    "taking over does nothing when held up": _sql(
        "TAKE_OVER",
        ("AND now() - %(asked)s < %(stall)s",
         "AND %(asked)s + %(stall)s IS NOT NULL"),
    ),
    "opening again takes the token away": _sql(
        "TAKE_OVER",
        ("CASE WHEN decision IS NOT NULL THEN claim_token END", "claim_token"),
    ),
    "opening again ends the claim": _sql(
        "TAKE_OVER",
        ("CASE WHEN decision IS NOT NULL THEN fired_at END", "fired_at"),
    ),
    "opening again has an end": _sql(
        "TAKE_OVER", ("WHEN claims > %(most)s THEN", "WHEN false THEN"),
    ),
    "what was lost is looked for": _sql(
        "LOST", ("queued_at IS NOT NULL", "false"),
    ),
    "a worker waits until it is due": _fire(
        "_wait_for", ("start - time.monotonic()", "0"),
    ),
    "a worker looks at its lease": _call(
        "_before_send",
        ("self._renew_if_old()", "pass"), ("self._check_lease()", "pass"),
    ),
    "a worker looks at its lease after a renewal": _call(
        "_before_send", ("self._check_lease()", "pass"),
    ),
    "a claim that was taken over is not renewed": _claims(
        "renew", ("not is_renewed", "False"),
    ),
    "a lease runs from before the question": _claims(
        "claim", ("timeout=_WRITE_TIMEOUT), asked_at",
                  "timeout=_WRITE_TIMEOUT), lease_clock()"),
    ),
    "tries end": _decision(
        "_try_again_unsent", ("now + in_time > until", "False"),
    ),
    "a request that left is marked": _call(
        "_on_sent", ("claims.mark_writer().add(self._mark())", "pass"),
    ),
    "a claim repeated with its token is no other try": _sql(
        "CLAIM",
        ("(claim_token IS DISTINCT FROM free.token)::int", "1"),
    ),
    "an answered attempt's mark does not count": _sql(
        "TAKE_OVER", ("sent_at >= next_at", "sent_at IS NOT NULL"),
    ),
    "the latest attempt's mark counts": _sql(
        "TAKE_OVER", ("sent_at >= next_at", "sent_at < next_at"),
    ),
    "a worker's death is kept as an attempt": _sql(
        "TAKE_OVER", ("FROM over ON", "FROM over WHERE false ON"),
    ),
    "a dead worker's mark is kept in its attempt": _sql(
        "TAKE_OVER", (_LEFT_AT, "NULL::timestamptz"),
    ),
    "another's mark is not kept in a dead worker's attempt": _sql(
        "TAKE_OVER", (_LEFT_AT, "sent_at"),
    ),
    "a late record corrects its attempt": _sql("CORRECT", _CORRECTING),
    "what was missed has no number": _sql(
        "RECORD", ("(number IS NULL AND was IS NULL)", "false"),
    ),
    "a record is repeated without effect": _sql(
        "CORRECT", (" AND was IS NULL)", ")"),
    ),
    "what is deferred has no number": _sql(
        "POSTPONE", ("- (number IS NULL)::int", ""),
    ),
    "a postponement counts tries": _sql(
        "POSTPONE", ("attempts = attempts + claims", "attempts = attempts"),
    ),
    "a postponement counts failures to connect": _sql(
        "POSTPONE", ("connect_failures = given.connect_failures,", ""),
    ),
    "a postponement keeps the end of all tries": _sql(
        "POSTPONE", ("retry_until = given.retry_until, ", ""),
    ),
    "a postponement counts retries": _sql(
        "POSTPONE", ("retries = given.retries,", ""),
    ),
    "a postponement keeps that it was sent": _sql(
        "POSTPONE",
        ("coalesce(given.sent_at, timer.sent_at)", "timer.sent_at"),
    ),
    "a cancel looks at retries": _sql("CANCEL", (" OR retries > 0", "")),
    "the unanswered is only sent again on demand": _decision(
        "judge",
        ("not (claim.retry and claim.retry.unanswered)", "False"),
    ),
    "who is gone is not called again": _decision(
        "_answered", ("code == GONE", "False"),
    ),
    "a receiver says when to come again": _decision(
        "_answered", ("code in BUSY", "False"),
    ),
    "retries end": _decision(
        "_retry", ("retries >= policy.max_attempts", "False"),
    ),
    "a retry has patience of its own": _decision(
        "_retry", ("retry_until=None", "retry_until=claim.retry_until"),
    ),
    "a retry is in time": _decision(
        "_retry",
        ("claim.latest_at is not None and now + delay > claim.latest_at",
         "False"),
    ),
    "another try is in time": _decision(
        "_in_time", ("min(delay, left)", "delay"),
    ),
    "no time is left for another try": _decision(
        "_in_time", ("if left >= _MARGIN else None", ""),
    ),
    "what was called was not missed": _decision(
        "too_late", ("if claim.called", "if False"),
    ),
    "a worker looks at once whether it is too late": _fire(
        "_try", ("if claim.is_too_late()", "if False"),
    ),
    "a worker looks at last whether it is too late": _call(
        "_before_send", ("self._check_lateness()", "pass"),
    ),
    "a worker says at once that it was too late": _call(
        "_not_made", ("if claim.is_too_late()", "if False"),
    ),
    "a worker says that a receiver hung": _call(
        "make", ("hung = result.hung", "hung = False"),
    ),
    "a worker gives its slot back": _call(
        "make", ("destinations().leave(self._origin, hung=hung)", "pass"),
    ),
    **MUTATIONS_OF_CALLERS,
}

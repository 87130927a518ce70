"""Firing one timer: claim it, wait out the lead, call, record."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.broker.middleware import LeaveUnacknowledged
from apps.core.clock import lease_clock
from apps.core.database import UNAVAILABLE, pool
from apps.core.group_commit import GroupCommit
from apps.core.outages import POSTGRES
from apps.core.per_process import PerProcess
from apps.core.repeated import Repeated
from apps.core.write_behind import WriteBehind
from apps.timers import decisions
from apps.timers.decisions import Decision
from apps.timers.firing import payload
from apps.timers.firing.marks import MarkWriter
from apps.timers.scheduling import publishing
from apps.timers.storage import store
from apps.timers.storage.records import (
    Claim,
    ClaimRequest,
    DueMessage,
    Early,
    Mark,
    Postponement,
    Report,
)
from apps.webhooks.client import (
    FailureKind,
    Result,
    WebhookClient,
    from_settings,
)
from apps.webhooks.fairness import Deferral, Destinations
from apps.webhooks.target import InvalidURL, Target, parse_target

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Written = TypeVar("Written", Report, Postponement)

#: Set when the process is to end: nothing then waits for Postgres, but
#: leaves its message to whoever is there when Postgres is back.
stopping = threading.Event()

#: How long one write may take before it is tried again, in seconds.
_WRITE_TIMEOUT = 5.0

_claims: GroupCommit[ClaimRequest, Claim | Early | None] = GroupCommit(
    store.claim
)
_renewals: GroupCommit[ClaimRequest, bool] = GroupCommit(store.renew)

#: So long a process that is to stop still tries to say what came of a
#: call, in seconds: unsaid, it may be made again. Together with a call it
#: must stay below what a worker is given to stop.
_LAST_WORD = 8.0

#: A request that is not out so many seconds after its claim was asked for
#: (DNS, connect, TLS) is not sent before the claim was renewed.
_RENEW_AFTER = 0.25


@PerProcess
def _client() -> WebhookClient:
    """Return this process's HTTP client, with its pooled connections."""
    return WebhookClient(from_settings())


@PerProcess
def _destinations() -> Destinations:
    """Return who is being called by this process, and how that goes."""
    return Destinations(settings.WORKER_THREADS)


@PerProcess
def mark_writer() -> MarkWriter:
    """Return this process's writer of marks, started on first use."""
    return MarkWriter()


def close_mark_writer() -> None:
    """Write the marks that are left; a later mark starts another writer."""
    if (writer := mark_writer.forget()) is not None:
        writer.close()


class ClaimLost(Exception):
    """A call that went out now could outlive its claim."""


_TOO_LATE = "max_lateness: its time passed longer ago than that"

#: Rungs that are missing or too short send many timers early, over and over.
_EARLY = Repeated(logger, "timer came early; it waits on")


class Deferred(Exception):
    """The address of a call has as many calls as it may have."""


class TooLate(Exception):
    """The timer's creator does not want it called so late."""


def prepare() -> None:
    """Make what the first call would have to wait for.

    Raises OSError when SSL_CERT_FILE can't be loaded, ImproperlyConfigured
    when there is no secret to sign with: receivers that verify would refuse
    what is not signed, and under `once` that is the end of a timer. One
    that waits for a worker is only late. The same is raised when a call
    could outlive the claim that it is made under.
    """
    longest = store.LEASE.total_seconds() / 2
    if longest < settings.WEBHOOK_TIMEOUT:
        raise ImproperlyConfigured(
            f"WEBHOOK_TIMEOUT={settings.WEBHOOK_TIMEOUT:g} must be at most"
            f" {longest:g}: a claim holds for {2 * longest:g} s, and what"
            " comes before the call takes its part of them."
        )
    if not settings.WEBHOOK_SIGNING_KEYS:
        raise ImproperlyConfigured(
            "WEBHOOK_SECRET is not set: a worker signs every webhook. Make a "
            "secret with: echo whsec_$(openssl rand -base64 32)"
        )
    _client()
    mark_writer()
    pool()


def fire(timer_id: UUID) -> None:
    """Call the timer's URL, unless that is not for this worker to do.

    The message that led here may be late, early or one of many; only a
    granted claim lets the call go out. Raises LeaveUnacknowledged when the
    process ends before Postgres could be reached.
    """
    token = uuid4()
    answer, asked_at = _claim(ClaimRequest(timer_id, token))
    if isinstance(answer, Early):
        _send_back(timer_id, answer.wait)
    elif answer is not None:
        _fire_claimed(answer, asked_at)


def _claim(request: ClaimRequest) -> tuple[Claim | Early | None, float]:
    """Ask for the claim; return the answer and when it was asked for.

    The lease runs from before the question, on the lease clock.
    """

    def ask() -> tuple[Claim | Early | None, float]:
        asked_at = lease_clock()
        return _claims.submit(request, timeout=_WRITE_TIMEOUT), asked_at

    return _until_done(ask)


def _until_done(
    write: Callable[[], Answer], *, patience: float = 0.0
) -> Answer:
    """Repeat an idempotent write until it works or the process stops.

    Then it has `patience` seconds more. Raising anything else would reject
    the message: an outage of Postgres would empty the queue into the dead
    letters.
    """
    give_up_at = None
    while True:
        try:
            answer = write()
        except (*UNAVAILABLE, TimeoutError) as error:
            POSTGRES.failed(error=str(error).strip())
            if stopping.wait(random.uniform(0.1, 0.5)):
                give_up_at = give_up_at or time.monotonic() + patience
                if time.monotonic() >= give_up_at:
                    raise LeaveUnacknowledged from error
                time.sleep(0.2)
        else:
            POSTGRES.worked()
            return answer


def _send_back(timer_id: UUID, wait: float) -> None:
    """Have a timer wait on that was delivered before its time.

    A rung of the ladder may be missing, or RabbitMQ's clock be fast.
    """
    _EARLY.note(timer=timer_id, early_s=round(wait, 3))
    timer = DueMessage(timer_id, time.monotonic() + wait)
    _until_done(lambda: publishing.put_off(timer))


def _fire_claimed(claim: Claim, asked_at: float) -> None:
    """Call the URL when the time has come, and keep what follows from it.

    Nothing is kept when no call was made since the claim may not outlive
    it: the timer fires again when the lease has ended.
    """
    try:
        target = parse_target(claim.url)
    except InvalidURL as error:
        _records.add((claim, decisions.invalid(claim, f"url: {error}")))
        return
    start = claim.clock.to_monotonic(claim.next_at)
    if (wait := start - time.monotonic()) > 0:
        time.sleep(wait)
    decision: Decision | None
    if _is_too_late(claim):
        decision = decisions.too_late(claim, _TOO_LATE)
    elif deferral := _destinations().enter(
        (target.host, target.port), returning=claim.waited
    ):
        decision = decisions.put_off(claim, deferral, _now(claim))
    else:
        decision = _try(claim, target, asked_at)
    if isinstance(decision, Postponement):
        _postponements.add((claim, decision))
    elif decision is not None:
        _records.add((claim, decision))


def _now(claim: Claim) -> datetime:
    """Return the time on Postgres's clock."""
    return claim.clock.to_database(time.monotonic())


def _is_too_late(claim: Claim) -> bool:
    return claim.latest_at is not None and _now(claim) > claim.latest_at


def _try(claim: Claim, target: Target, asked_at: float) -> Decision | None:
    """Call, and return what follows from that."""
    sent_at: datetime | None = None
    deferral: Deferral | None = None

    def locate(address: str) -> None:
        nonlocal deferral
        if sent_at is None:
            deferral = _destinations().locate(
                (target.host, target.port), address, returning=claim.waited
            )
        if deferral is not None:
            raise Deferred(deferral.reason)

    def check() -> None:
        nonlocal asked_at
        if lease_clock() - asked_at > _RENEW_AFTER:
            asked_at = _renew(claim)
        used = lease_clock() - asked_at
        left = store.LEASE.total_seconds() - used
        if left < settings.WEBHOOK_TIMEOUT:
            raise ClaimLost(f"the claim is {used:.1f} s old")
        if _is_too_late(claim):
            raise TooLate(_TOO_LATE)

    def note_sent() -> None:
        nonlocal sent_at
        sent_at = _now(claim)
        mark_writer().add(Mark(claim.id, claim.token, sent_at))

    def note_answer(status_code: int) -> None:
        mark_writer().add(Mark(claim.id, claim.token, sent_at, status_code))

    hung = None
    try:
        result = _call(
            claim, target, locate, check, note_sent, note_answer
        )
        if result.failure is not FailureKind.aborted:
            hung = result.hung
    except Exception as error:
        return _broken(claim, error, sent_at)
    finally:
        _destinations().leave((target.host, target.port), hung=hung)
    if result.failure is not FailureKind.aborted:
        if sent_at is not None or result.status_code is not None:
            mark_writer().answered(
                Mark(claim.id, claim.token, sent_at, result.status_code)
            )
        return _judge(claim, result, sent_at if result.sent else None)
    mark_writer().discard(claim.token)
    if deferral is not None:
        return decisions.put_off(claim, deferral, _now(claim))
    if _is_too_late(claim):
        return decisions.too_late(claim, _TOO_LATE)
    logger.warning(
        "timer not called now; it will be when its lease has ended",
        extra={"timer": claim.id, "detail": result.detail},
    )
    return None


def _judge(
    claim: Claim, result: Result, sent_at: datetime | None
) -> Decision:
    """Return what follows from a call, whatever was answered."""
    try:
        return decisions.judge(claim, result, sent_at, _now(claim))
    except Exception as error:
        return _broken(claim, error, sent_at, result.status_code)


def _broken(
    claim: Claim,
    error: Exception,
    sent_at: datetime | None,
    status_code: int | None = None,
) -> Decision:
    """Return what follows when this service failed, and say so.

    Without a record the lease would end, and the call be repeated.
    """
    logger.exception("a call went wrong", extra={"timer": claim.id})
    return decisions.broken(claim, error, sent_at, _now(claim), status_code)


def _renew(claim: Claim) -> float:
    """Renew a claim and return when that was asked for; or ClaimLost."""
    asked_at = lease_clock()
    try:
        renewed = _renewals.submit(
            ClaimRequest(claim.id, claim.token), timeout=_WRITE_TIMEOUT
        )
    except (*UNAVAILABLE, TimeoutError) as error:
        raise ClaimLost("the claim could not be renewed") from error
    if not renewed:
        raise ClaimLost("the claim was taken over")
    return asked_at


def _call(
    claim: Claim,
    target: Target,
    before_dial: Callable[[str], None],
    before_send: Callable[[], None],
    on_sent: Callable[[], None],
    on_answer: Callable[[int], None],
) -> Result:
    headers, body = payload.compose(claim, _now(claim))
    return _client().call(
        target,
        method=claim.request.method,
        headers=headers,
        body=body,
        deadline=time.monotonic() + settings.WEBHOOK_TIMEOUT,
        before_dial=before_dial,
        before_send=before_send,
        on_sent=on_sent,
        on_answer=on_answer,
    )


def _last_word(
    write: Callable[[Sequence[Written]], list[bool]], items: Sequence[Written]
) -> list[bool]:
    """Write what came of timers, also when the process is to stop."""
    try:
        return _until_done(lambda: write(items), patience=_LAST_WORD)
    except Exception as error:
        logger.error(
            "what came of calls is not kept; the claims' leases end",
            extra={
                "timers": [str(item.id) for item in items],
                "error": str(error.__cause__ or error).strip(),
            },
        )
        raise


def _record(ended: Sequence[tuple[Claim, Report]]) -> None:
    """Keep how timers ended, and say so."""
    reports = [report for _, report in ended]
    recorded = _last_word(store.record, reports)
    mark_writer().discard(*(report.token for report in reports))
    for (claim, report), is_recorded in zip(ended, recorded, strict=True):
        details = decisions.details(claim, report.attempt, report.error)
        if not is_recorded:
            details["recorded"] = "no: the claim was taken over"
        logger.info(f"timer {report.outcome.value}", extra=details)


def _postpone(tried: Sequence[tuple[Claim, Postponement]]) -> None:
    """Have timers tried again later, and say so."""
    postponements = [postponement for _, postponement in tried]
    _last_word(store.postpone, postponements)
    mark_writer().discard(*(each.token for each in postponements))
    for claim, postponement in tried:
        details = decisions.details(
            claim, postponement.attempt, postponement.error
        )
        again_in = postponement.delay.total_seconds()
        details["again_in_s"] = round(again_in, 1)
        logger.info("timer postponed", extra=details)


_records: WriteBehind[tuple[Claim, Report]] = WriteBehind(_record)
_postponements: WriteBehind[tuple[Claim, Postponement]] = WriteBehind(
    _postpone
)

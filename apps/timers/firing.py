"""Firing one timer: claim it, wait out the lead, call, record."""

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.broker.middleware import LeaveUnacknowledged
from apps.timers import publishing, store
from apps.timers.clock import lease_clock
from apps.timers.database import UNAVAILABLE, pool
from apps.timers.group_commit import GroupCommit
from apps.timers.marks import MarkWriter
from apps.timers.models import Outcome
from apps.timers.once import Once
from apps.timers.outages import POSTGRES
from apps.timers.records import (
    Claim,
    Early,
    Mark,
    Near,
    Postponement,
    Report,
    Wish,
)
from apps.webhooks.client import (
    FailureKind,
    Result,
    WebhookClient,
    from_settings,
)
from apps.webhooks.retry import backoff
from apps.webhooks.signing import sign
from apps.webhooks.target import parse_target

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

#: Set when the process is to end: nothing then waits for Postgres, but
#: leaves its message to whoever is there when Postgres is back.
stopping = threading.Event()

#: How long one write may take before it is tried again, in seconds.
_WRITE_TIMEOUT = 5.0

_claims: GroupCommit[Wish, Claim | Early | None] = GroupCommit(store.claim)
_renewals: GroupCommit[Wish, bool] = GroupCommit(store.renew)
_records: GroupCommit[Report, bool] = GroupCommit(store.record)
_postponements: GroupCommit[Postponement, bool] = GroupCommit(store.postpone)

#: So long a process that is to stop still tries to say what came of a
#: call, in seconds: unsaid, it may be made again. Together with a call it
#: must stay below what a worker is given to stop.
_LAST_WORD = 8.0

#: A request that is not out so many seconds after its claim was asked for
#: (DNS, connect, TLS) is not sent before the claim was renewed.
_RENEW_AFTER = 0.25
#: Failures that no later try would mend.
_FINAL = frozenset({FailureKind.aborted, FailureKind.blocked})


@Once
def _client() -> WebhookClient:
    """Return this process's HTTP client, with its pooled connections."""
    return WebhookClient(from_settings())


@Once
def mark_writer() -> MarkWriter:
    """Return this process's writer of marks, started on first use."""
    return MarkWriter()


class ClaimLost(Exception):
    """A call that went out now could outlive its claim."""


def prepare() -> None:
    """Make what the first call would have to wait for.

    Raises OSError when SSL_CERT_FILE can't be loaded, ImproperlyConfigured
    when there is no secret to sign with: receivers that verify would refuse
    what is not signed, and under `once` that is the end of a timer. One
    that waits for a worker is only late.
    """
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
    answer, asked_at = _claim(Wish(timer_id, token))
    if isinstance(answer, Early):
        _send_back(timer_id, answer.wait)
    elif answer is not None:
        _fire_claimed(answer, asked_at)


def _claim(wish: Wish) -> tuple[Claim | Early | None, float]:
    """Ask for the claim; return the answer and when it was asked for.

    The lease runs from before the question, on the lease clock.
    """

    def ask() -> tuple[Claim | Early | None, float]:
        asked_at = lease_clock()
        return _claims.submit(wish, timeout=_WRITE_TIMEOUT), asked_at

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
    logger.warning(
        "timer came early; it waits on",
        extra={"timer": timer_id, "early_s": round(wait, 3)},
    )
    timer = Near(timer_id, time.monotonic() + wait)
    _until_done(lambda: publishing.put_off(timer))


def _fire_claimed(claim: Claim, asked_at: float) -> None:
    """Call the URL when the time has come, and record what came of it."""
    start = claim.clock.to_monotonic(claim.next_at)
    time.sleep(max(0.0, start - time.monotonic()))
    sent_at: datetime | None = None

    def check_lease() -> None:
        nonlocal asked_at
        if lease_clock() - asked_at > _RENEW_AFTER:
            asked_at = _renew(claim)
        used = lease_clock() - asked_at
        left = store.LEASE.total_seconds() - used
        if left < settings.WEBHOOK_TIMEOUT:
            raise ClaimLost(f"the claim is {used:.1f} s old")

    def note_sent() -> None:
        nonlocal sent_at
        sent_at = claim.clock.to_database(time.monotonic())
        mark_writer().add(Mark(claim.id, claim.token, sent_at))

    result = _call(claim, check_lease, note_sent)
    mark_writer().discard(claim.token)
    if result.failure is FailureKind.aborted:
        logger.warning(
            "timer not called now; it will be when its lease has ended",
            extra={"timer": claim.id, "detail": result.detail},
        )
        return
    if _postponed(claim, result):
        return
    report = _report(claim, result, sent_at)
    recorded = _until_done(
        lambda: _records.submit(report, timeout=_WRITE_TIMEOUT),
        patience=_LAST_WORD,
    )
    _log(claim, report, result, recorded)


def _renew(claim: Claim) -> float:
    """Renew a claim and return when that was asked for; or ClaimLost."""
    asked_at = lease_clock()
    try:
        renewed = _renewals.submit(
            Wish(claim.id, claim.token), timeout=_WRITE_TIMEOUT
        )
    except (*UNAVAILABLE, TimeoutError) as error:
        raise ClaimLost("the claim could not be renewed") from error
    if not renewed:
        raise ClaimLost("the claim was taken over")
    return asked_at


def _postponed(claim: Claim, result: Result) -> bool:
    """Have a call tried again that can't have reached its receiver."""
    failure = result.failure
    if failure is None or not failure.unsent or failure in _FINAL:
        return False
    now = claim.clock.to_database(time.monotonic())
    patience = timedelta(seconds=settings.WEBHOOK_CONNECT_RETRY_SECONDS)
    until = claim.retry_until or now + patience
    delay = timedelta(seconds=backoff(claim.connect_failures + 1))
    if now + delay > until:
        return False
    postponement = Postponement(
        claim.id, claim.token, delay, until, result.error
    )
    _until_done(
        lambda: _postponements.submit(postponement, timeout=_WRITE_TIMEOUT),
        patience=_LAST_WORD,
    )
    logger.info(
        "timer postponed",
        extra={
            "timer": claim.id,
            "error": result.error,
            "again_in_s": round(delay.total_seconds(), 1),
        },
    )
    return True


def _call(
    claim: Claim, before_send: Callable[[], None], on_sent: Callable[[], None]
) -> Result:
    body = json.dumps(_payload(claim)).encode()
    return _client().call(
        parse_target(claim.url),
        headers=_headers(claim, body),
        body=body,
        deadline=time.monotonic() + settings.WEBHOOK_TIMEOUT,
        before_send=before_send,
        on_sent=on_sent,
    )


def _headers(claim: Claim, body: bytes) -> dict[str, str]:
    """Return the headers of one try; only it has this time and signature."""
    webhook_id = str(claim.id)
    now = claim.clock.to_database(time.monotonic())
    timestamp = str(int(now.timestamp()))
    return {
        "content-type": "application/json",
        "user-agent": settings.WEBHOOK_USER_AGENT,
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(
            settings.WEBHOOK_SIGNING_KEYS, webhook_id, timestamp, body
        ),
        "timer-due-at": claim.due_at.isoformat(),
        "timer-attempt": str(claim.attempt),
    }


def _payload(claim: Claim) -> dict[str, object]:
    """Return the body, in the shape that Standard Webhooks describes.

    https://github.com/standard-webhooks/standard-webhooks
    """
    return {
        "id": str(claim.id),
        "type": "timer.expired",
        "timestamp": claim.due_at.isoformat(),
        "data": {
            "id": str(claim.id),
            "created_at": claim.created_at.isoformat(),
            "fire_at": claim.due_at.isoformat(),
        },
    }


def _report(
    claim: Claim, result: Result, sent_at: datetime | None
) -> Report:
    """Judge a call: only a 2xx answer counts as delivered."""
    code = result.status_code
    delivered = code is not None and 200 <= code < 300
    return Report(
        claim.id,
        claim.token,
        Outcome.DELIVERED if delivered else Outcome.FAILED,
        sent_at,
        code,
        result.error,
    )


def _log(
    claim: Claim, report: Report, result: Result, recorded: bool
) -> None:
    details: dict[str, object] = {"timer": claim.id}
    if report.sent_at is not None:
        late = (report.sent_at - claim.due_at).total_seconds()
        details["late_ms"] = round(late * 1000, 1)
    if report.status_code is not None:
        details["status"] = report.status_code
    if report.error is not None:
        details["error"] = report.error
    details["took_ms"] = round(result.duration * 1000, 1)
    if not recorded:
        details["recorded"] = "no: the claim was taken over"
    logger.info(f"timer {report.outcome.value}", extra=details)

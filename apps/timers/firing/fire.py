"""Firing one timer: claim it, wait for its time, call, record.

The two actors differ only in their queue and priority. A priority belongs to
an actor, and a prefetch to a queue. So overdue timers have an actor and a
queue of their own: a backlog of them must not delay the timers that are on
time.
"""

import time
from uuid import UUID

import dramatiq
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.accounts import signing
from apps.broker.interface import ON_TIME, OVERDUE
from apps.core.database import pool
from apps.core.outages import Outage
from apps.timers import decisions
from apps.timers.decisions import Decision
from apps.timers.firing import call, claims
from apps.timers.scheduling import publishing
from apps.timers.scheduling.holding import HOLD
from apps.timers.storage import claiming
from apps.timers.storage.claim_records import Claim, Early, Held
from apps.timers.storage.records import DueMessage
from apps.webhooks.target import InvalidURL, parse_target

#: Rungs that are missing or too short send many timers early, over and over.
_EARLY = Outage("timer came early; it waits on")


@dramatiq.actor(
    actor_name=publishing.FIRE_TIMER, queue_name=ON_TIME, priority=0
)
def fire_timer(timer_id: str) -> None:
    """Fire a timer that is due now, within the lead."""
    fire(UUID(timer_id))


@dramatiq.actor(
    actor_name=publishing.FIRE_OVERDUE_TIMER, queue_name=OVERDUE, priority=10
)
def fire_overdue_timer(timer_id: str) -> None:
    """Fire a timer whose time passed before it could be queued."""
    fire(UUID(timer_id))


def fire(timer_id: UUID) -> None:
    """Call the timer's URL, if this worker gets the claim.

    The message that led here may be late, early or one of many; only a
    granted claim lets the call go out. Raises LeaveUnacknowledged when the
    process ends before Postgres could be reached.
    """
    claim, asked_at = claims.claim(timer_id)
    if claim is None:
        return
    if isinstance(claim, Early):
        _send_back(timer_id, claim)
        return
    if isinstance(claim, Held):
        HOLD.failed()
        return
    decision = _try(claim, asked_at)
    if decision is not None:
        claims.end(claim, decision)


def _send_back(timer_id: UUID, early: Early) -> None:
    """Send back a timer that was delivered before its time.

    A rung of the ladder may be missing, or RabbitMQ's clock may be fast.
    """
    timer = DueMessage(timer_id, time.monotonic() + early.wait)
    if early.moved:
        claims.until_done(lambda: publishing.send_on(timer))
        return
    _EARLY.failed(timer=timer_id, early_s=round(early.wait, 3))
    claims.until_done(lambda: publishing.send_back(timer))


def _try(claim: Claim, asked_at: float) -> Decision | None:
    """Call when the time has come; return what follows from that.

    None if no call was made because the claim could end first.
    """
    try:
        target = parse_target(claim.url)
    except InvalidURL as error:
        return decisions.invalid(claim, f"url: {error}")
    try:
        keys = claims.until_done(lambda: signing.keys_of(claim.account))
    except signing.UnreadableSecret as error:
        return decisions.invalid(claim, str(error))
    _wait_for(claim)
    if claim.is_too_late():
        return decisions.too_late(claim, decisions.TOO_LATE)
    origin = target.host, target.port
    deferral = call.destinations().enter(origin, returning=claim.waited)
    if deferral is not None:
        return decisions.deferred(claim, deferral, claim.now())
    return call.Call(claim, target, keys, asked_at).make()


def _wait_for(claim: Claim) -> None:
    """Wait for a timer's time, which is at most the lead away."""
    start = claim.clock.to_monotonic(claim.next_at)
    if (wait := start - time.monotonic()) > 0:
        time.sleep(wait)


def prepare() -> None:
    """Make what the first call would have to wait for.

    Raises OSError when SSL_CERT_FILE can't be loaded. Raises
    ImproperlyConfigured when a call could outlive its claim, or when there is
    no secret to sign with. Receivers that verify would refuse unsigned calls,
    and under `once` that ends a timer. A timer that waits for a worker is only
    late.
    """
    longest = claiming.LEASE.total_seconds() / 2
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
    call.client()
    claims.mark_writer()
    pool()

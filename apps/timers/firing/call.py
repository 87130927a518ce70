"""One call under one claim: its request, its checks, what is kept of it."""

import logging
import time
from datetime import datetime

from django.conf import settings

from apps.accounts.signing import SigningKeys
from apps.core.processes import PerProcess
from apps.timers import decisions
from apps.timers.decisions import Decision
from apps.timers.firing import claims
from apps.timers.payload import default_body
from apps.timers.storage import claiming
from apps.timers.storage.claim_records import Claim, Mark
from apps.webhooks.client import Abort, WebhookClient, from_settings
from apps.webhooks.destination import Deferral
from apps.webhooks.fairness import Destinations
from apps.webhooks.request import WITH_BODY, merged
from apps.webhooks.results import FailureKind, Result
from apps.webhooks.signing import sign
from apps.webhooks.target import Target

logger = logging.getLogger(__name__)

#: How old a claim may be when its request leaves, in seconds. If DNS, connect
#: and TLS take longer, the claim is renewed first.
_RENEW_AFTER = 0.25


@PerProcess
def client() -> WebhookClient:
    """Return this process's HTTP client, with its idle connections."""
    return WebhookClient(from_settings())


@PerProcess
def destinations() -> Destinations:
    """Return the destinations that this process calls, and how they answer."""
    return Destinations(settings.WORKER_THREADS)


class TooLate(Abort):
    """The timer's creator does not want it called so late."""


class Deferred(Abort):
    """The address already has as many calls as it may have."""


class Call:
    """One call of a claimed timer, whose destination has room for it."""

    def __init__(
        self, claim: Claim, target: Target, keys: SigningKeys, asked_at: float
    ) -> None:
        """Take the claim, and when it was asked for, on the lease clock."""
        self._claim = claim
        self._target = target
        self._keys = keys
        self._asked_at = asked_at
        self._origin = target.host, target.port
        self._deferral: Deferral | None = None
        #: When the last byte left, on Postgres's clock.
        self._sent_at: datetime | None = None

    def make(self) -> Decision | None:
        """Call, and return what follows from that.

        None if no call was made because the claim could end first. The timer
        then fires again when its lease has ended.
        """
        hung = None
        try:
            result = self._send()
            if result.failure is not FailureKind.aborted:
                hung = result.hung
        except Exception as error:
            return self._broken(error)
        finally:
            destinations().leave(self._origin, hung=hung)
        if result.failure is FailureKind.aborted:
            return self._not_made(result)
        return self._judge(result)

    def _send(self) -> Result:
        claim = self._claim
        headers, body = compose(claim, self._keys, claim.now())
        return client().call(
            self._target,
            method=claim.request.method,
            headers=headers,
            body=body,
            deadline=time.monotonic() + settings.WEBHOOK_TIMEOUT,
            before_dial=self._before_dial,
            before_send=self._before_send,
            on_sent=self._on_sent,
            on_answer=self._on_answer,
        )

    # --- what happens during the call ---------------------------------------

    def _before_dial(self, address: str) -> None:
        """Ask whether the address has room for the call."""
        # A request that is sent a second time already has its place.
        if self._sent_at is None:
            self._deferral = destinations().locate(
                self._origin, address, returning=self._claim.waited
            )
        if self._deferral is not None:
            raise Deferred(self._deferral.reason)

    def _before_send(self) -> None:
        """Check that the call may still be made."""
        self._renew_if_old()
        self._check_lease()
        self._check_lateness()

    def _renew_if_old(self) -> None:
        if claims.lease_clock() - self._asked_at > _RENEW_AFTER:
            self._asked_at = claims.renew(self._claim)

    def _check_lease(self) -> None:
        used = claims.lease_clock() - self._asked_at
        left = claiming.LEASE.total_seconds() - used
        if left < settings.WEBHOOK_TIMEOUT:
            raise claims.LeaseTooShort(f"the claim is {used:.1f} s old")

    def _check_lateness(self) -> None:
        if self._claim.is_too_late():
            raise TooLate(decisions.TOO_LATE)

    def _on_sent(self) -> None:
        """Mark that the request has left."""
        self._sent_at = self._claim.now()
        claims.mark_writer().add(self._mark())

    def _on_answer(self, status_code: int) -> None:
        """Mark the status, since the answer's body is slow to follow."""
        claims.mark_writer().add(self._mark(status_code))

    # --- what follows from it -----------------------------------------------

    def _not_made(self, result: Result) -> Decision | None:
        """Return what follows when a check kept the request back."""
        claim = self._claim
        claims.mark_writer().discard(claim.token)
        if self._deferral is not None:
            return decisions.deferred(claim, self._deferral, claim.now())
        if claim.is_too_late():
            return decisions.too_late(claim, decisions.TOO_LATE)
        logger.warning(
            "timer not called now; it will be when its lease has ended",
            extra={"timer": claim.id, "detail": result.detail},
        )
        return None

    def _judge(self, result: Result) -> Decision:
        """Return what follows from a call, whatever was answered."""
        claim, code = self._claim, result.status_code
        if self._sent_at is not None or code is not None:
            # Its record should follow, and then no mark is needed.
            claims.mark_writer().add_later(self._mark(code))
        sent_at = self._sent_at if result.sent else None
        try:
            return decisions.judge(claim, result, sent_at, claim.now())
        except Exception as error:
            return self._broken(error, code)

    def _broken(
        self, error: Exception, status_code: int | None = None
    ) -> Decision:
        """Return what follows when this service failed, and log that.

        Without a record the lease would end, and the call would be repeated.
        """
        claim = self._claim
        logger.exception("a call went wrong", extra={"timer": claim.id})
        return decisions.broken(
            claim, error, self._sent_at, claim.now(), status_code
        )

    def _mark(self, status_code: int | None = None) -> Mark:
        claim = self._claim
        return Mark(claim.id, claim.token, self._sent_at, status_code)


def compose(
    claim: Claim, keys: SigningKeys, now: datetime
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of one try, which begins `now`.

    Each try has a timestamp and a signature of its own. Without keys there is
    no signature.
    """
    request = claim.request
    body = request.body
    if body is None and request.method in WITH_BODY:
        body = default_body(claim)
    defaults = {"user-agent": settings.WEBHOOK_USER_AGENT}
    if body is not None:
        defaults["content-type"] = "application/json"
    body = body or b""
    webhook_id = str(claim.id)
    timestamp = str(int(now.timestamp()))
    own = {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "timer-due-at": claim.due_at.isoformat(timespec="microseconds"),
        "timer-attempt": str(claim.attempt),
    }
    if signature := sign(
        keys.secrets, webhook_id, timestamp, body, keys.private_keys
    ):
        own["webhook-signature"] = signature
    return merged(defaults, request.headers or {}, own), body

"""What a timer's call consists of: its headers and its body."""

import json
from datetime import datetime

from django.conf import settings

from apps.timers.storage.records import Claim
from apps.webhooks.request import WITH_BODY, merged
from apps.webhooks.signing import sign


def compose(claim: Claim, now: datetime) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of one try, which begins `now`.

    Each try has a timestamp and a signature of its own.
    """
    request = claim.request
    body = request.body
    if body is None and request.method in WITH_BODY:
        body = json.dumps(_default(claim)).encode()
    defaults = {"user-agent": settings.WEBHOOK_USER_AGENT}
    if body is not None:
        defaults["content-type"] = "application/json"
    body = body or b""
    webhook_id = str(claim.id)
    timestamp = str(int(now.timestamp()))
    own = {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(
            settings.WEBHOOK_SIGNING_KEYS,
            webhook_id,
            timestamp,
            body,
            settings.WEBHOOK_PRIVATE_KEYS,
        ),
        "timer-due-at": claim.due_at.isoformat(timespec="microseconds"),
        "timer-attempt": str(claim.attempt),
    }
    return merged(defaults, request.headers or {}, own), body


def _default(claim: Claim) -> dict[str, object]:
    """Return the body, in the shape that Standard Webhooks describes.

    https://github.com/standard-webhooks/standard-webhooks
    """
    return {
        "id": str(claim.id),
        "type": "timer.expired",
        "timestamp": claim.due_at.isoformat(timespec="microseconds"),
        "data": {
            "id": str(claim.id),
            "created_at": claim.created_at.isoformat(timespec="microseconds"),
            "fire_at": claim.due_at.isoformat(timespec="microseconds"),
            **({"labels": claim.labels} if claim.labels else {}),
        },
    }

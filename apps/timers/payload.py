"""What a timer's call consists of: its headers and its body."""

import json
from datetime import datetime

from django.conf import settings

from apps.timers.records import Claim
from apps.webhooks.signing import sign

#: Methods whose requests have a body, the default one if none is given.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def compose(claim: Claim, now: datetime) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of one try, which begins `now`.

    Only it has this time and signature.
    """
    request = claim.request
    body = request.body
    if body is None and request.method in _WITH_BODY:
        body = json.dumps(_default(claim)).encode()
    body = body or b""
    webhook_id = str(claim.id)
    timestamp = str(int(now.timestamp()))
    return {
        "content-type": "application/json",
        "user-agent": settings.WEBHOOK_USER_AGENT,
        **(request.headers or {}),
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(
            settings.WEBHOOK_SIGNING_KEYS, webhook_id, timestamp, body
        ),
        "timer-due-at": claim.due_at.isoformat(),
        "timer-attempt": str(claim.attempt),
    }, body


def _default(claim: Claim) -> dict[str, object]:
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

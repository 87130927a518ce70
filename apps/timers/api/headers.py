"""What the API reads from a request's headers, beside its body."""

import hashlib
import re
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Header
from ninja.errors import ValidationError

from apps.timers.services import Versions
from apps.timers.storage.records import RequestKey

_PRINTABLE = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")
_STRONG_TAG = re.compile(r'"([0-9]{1,9})"')


_NAME = "Idempotency-Key"
#: What the API's document says of the header. The endpoints read it
#: themselves: to let Ninja read a header costs a tenth of POST /timer.
IDEMPOTENCY_KEY: dict[str, Any] = {
    "parameters": [
        {
            "in": "header",
            "name": _NAME,
            "required": False,
            "description": "The same key and the same body within 24 hours"
            " give the first answer again, with 200. Another body is 422.",
            "schema": {
                "type": "string",
                "pattern": f"^{_PRINTABLE.pattern}$",
            },
            "example": "order-17",
        }
    ]
}
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="An `ETag` that was answered before, or several. If the"
        " timer was changed since, it stays as it is: 412.",
        examples=['"3"'],
    ),
]


def idempotency_key(request: HttpRequest) -> str | None:
    """Return a request's `Idempotency-Key`, None if it has none.

    Raises ninja's ValidationError.
    """
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _PRINTABLE.fullmatch(key):
        sentence = "must have 1 to 255 printable ASCII characters"
        raise ValidationError([
            {"type": "wrong", "loc": ("header", _NAME), "msg": sentence}
        ])
    return key


def request_key(request: HttpRequest, time_left: int) -> RequestKey | None:
    """Return a request's key with its fingerprint, None without a key.

    Raises ninja's ValidationError.
    """
    key = idempotency_key(request)
    if key is None:
        return None
    fingerprint = hashlib.sha256(request.body).digest()
    return RequestKey(key, fingerprint, time_left)


def versions(if_match: str | None) -> Versions:
    """Return the versions that an If-Match has, None if any will do.

    Tags that are weak, or not ours, match no version (RFC 9110, 13.1.1).
    """
    if if_match is None or if_match.strip() == "*":
        return None
    tags = re.split(r"[\t ]*,[\t ]*", if_match.strip())
    found = map(_STRONG_TAG.fullmatch, tags)
    return frozenset(int(match[1]) for match in found if match)


def etag(version: int) -> str:
    """Return the ETag of a timer's version."""
    return f'"{version}"'

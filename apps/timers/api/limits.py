"""What an account is told of its limits.

The headers are those of draft-ietf-httpapi-ratelimit-headers-11. A unit of
either quota is a timer.
"""

import math
from dataclasses import asdict
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import Router
from pydantic import BaseModel, ConfigDict, Field

from apps.accounts.limits import Standing, standing_of
from apps.core.answers import error_response
from apps.core.callers import account_of
from apps.timers import services
from apps.timers.api.schemas import ErrorOut
from apps.timers.storage.limiting import LimitReached

router = Router(tags=["account"])

POLICY = "RateLimit-Policy"
LEFT = "RateLimit"


class LimitsOut(BaseModel):
    """An account's limits, and what is left of them; null: no limit."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "outstanding": 100000, "creates_per_second": 50, "burst": 500,
        "body_bytes": 16384, "outstanding_now": 1234, "creates_left": 500,
    }})

    outstanding: int | None = Field(
        description="The most timers that have not ended."
    )
    creates_per_second: int | None = Field(
        description="How many timers may be set a second, on average."
    )
    burst: int | None = Field(
        description="How many may be set at once, after a pause."
    )
    body_bytes: int | None = Field(
        description="The longest body of a request that sets or changes a"
        " timer. In POST /timers, each timer counts by itself."
    )
    outstanding_now: int | None = Field(
        description="How many timers have not ended. Null without a limit, or"
        " if that is too high to count them for this."
    )
    creates_left: int | None = Field(
        description="How many timers may be set at once now."
    )


@router.get(
    "/account/limits",
    response={200: LimitsOut, frozenset({503}): ErrorOut},
    summary="Look at the account's limits",
)
def get_limits(request: HttpRequest) -> dict[str, Any]:
    """Return the account's limits, and what is left of them."""
    found = services.get_limits(account_of(request))
    return asdict(found.limits) | {
        "outstanding_now": found.outstanding_now,
        "creates_left": found.creates_left,
    }


def show_limits(account: int, response: HttpResponseBase) -> None:
    """Tell in an answer what is left to the account, if it has limits."""
    standing = standing_of(account)
    if standing is not None:
        for name, value in headers_of(standing).items():
            response[name] = value


def limit_reached(error: LimitReached) -> HttpResponse:
    """Return 429: what is used up, and when to try again."""
    standing: Standing = error.args[0].standing
    response = error_response(
        429, standing.refusal, Retry_After=str(standing.seconds)
    )
    for name, value in headers_of(standing).items():
        response[name] = value
    return response


def headers_of(standing: Standing) -> dict[str, str]:
    """Return the draft's two headers; empty if no limit has a quota.

    `t` stands where nothing is left. Then it is what Retry-After says.
    """
    policies, left = [], []
    if standing.outstanding is not None:
        policies.append(f'"outstanding";q={standing.outstanding}')
        left.append(_item("outstanding", standing.room, standing))
    if standing.burst is not None and standing.creates_per_second:
        window = math.ceil(standing.burst / standing.creates_per_second)
        policies.append(f'"creates";q={standing.burst};w={window}')
        left.append(_item("creates", standing.tokens, standing))
    if not policies:
        return {}
    return {POLICY: ", ".join(policies), LEFT: ", ".join(left)}


def _item(name: str, left: int | None, standing: Standing) -> str:
    window = "" if left else f";t={standing.seconds}"
    return f'"{name}";r={left or 0}{window}'

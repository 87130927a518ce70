"""The endpoint that explains a timer in sentences."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest
from ninja import Router
from pydantic import BaseModel, ConfigDict, Field

from apps.core.callers import account_of
from apps.core.reaching import reaching_postgres
from apps.timers.api.fields import TimerId
from apps.timers.api.schemas import ErrorOut
from apps.timers.explain.answer import explain
from apps.timers.storage import explaining

router = Router(tags=["timers"])

_EXAMPLE: dict[str, Any] = {
    "summary": "It is called at 2026-01-31T12:00:00.000Z, in 9 min 59 s. It"
    " waits in Postgres; RabbitMQ gets a message for it 1 min before. It was"
    " moved once, from 2026-01-31T11:55:00.000Z to 2026-01-31T12:00:00.000Z.",
    "events": [
        {
            "at": "2026-01-31T11:45:00Z",
            "what": "set",
            "detail": "It was set for 2026-01-31T11:55:00.000Z.",
        },
        {
            "at": "2026-01-31T11:50:00Z",
            "what": "moved",
            "detail": "It was moved from 2026-01-31T11:55:00.000Z to"
            " 2026-01-31T12:00:00.000Z, 5 min later.",
        },
    ],
    "next": {"at": "2026-01-31T12:00:00Z", "what": "It is called."},
}


class HappenedOut(BaseModel):
    """Something that has happened to a timer."""

    at: datetime
    what: str = Field(
        description="set, moved, changed, fired now, replayed, cancelled,"
        " reconciled, erased; queued, claimed, sent, put off; answered, no"
        " answer, not sent, worker lost; left out."
    )
    detail: str = Field(description="The same in sentences.")


class NextOut(BaseModel):
    """What happens next."""

    at: datetime = Field(
        description="When. If that has passed: as soon as it can be."
    )
    what: str


class ExplanationOut(BaseModel):
    """A timer in sentences, from what is stored of it."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    summary: str = Field(description="Where it stands, and why.")
    events: list[HappenedOut] = Field(
        description="What has happened, in order. Of many changes or attempts"
        f" the first {explaining.MOST} and the last {explaining.MOST}."
    )
    next: NextOut | None = Field(
        description="What comes next; null once it has ended."
    )


@router.get(
    "/timer/{timer_uuid}/explain",
    response={200: ExplanationOut, frozenset({404, 422, 503}): ErrorOut},
    summary="Explain a timer",
)
def explain_timer(request: HttpRequest, timer_uuid: TimerId) -> ExplanationOut:
    """Say in sentences what has happened, where it stands and what comes.

    All of it is read from what is stored. The sentences are for people and
    may change; programs read GET /timer/{timer_uuid}.
    """
    with reaching_postgres():
        history = explaining.history(account_of(request), timer_uuid)
    if history is None:
        raise Http404(f"There is no timer {timer_uuid}.")
    answer = explain(history, has_rabbitmq=bool(settings.RABBITMQ_URL))
    return ExplanationOut.model_validate(answer, from_attributes=True)

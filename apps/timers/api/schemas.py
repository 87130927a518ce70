"""What the API takes and gives about one timer."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from apps.timers.api.definition import (
    DefinitionIn,
    Delivery,
    RetryIn,
)
from apps.timers.api.fields import Key
from apps.timers.api.times import TIME_SCHEMA, TimesIn
from apps.timers.storage.records import Status, StoredTimer

_ID = "01a21bd8-6054-705a-b288-d4e597a0b251"
_EXAMPLE: dict[str, Any] = {
    "hours": 0,
    "minutes": 0,
    "seconds": 5,
    "url": "https://example.com/hook",
}


class TimerIn(DefinitionIn, TimesIn):
    """A timer to be set: when, and what to call then."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": _EXAMPLE, **TIME_SCHEMA},
    )

    key: Key | None = Field(
        default=None,
        description="Your own name for it, unique among the timers that have"
        " not ended: 1 to 255 characters, no control characters.",
        examples=["order-17"],
    )


class TimerCreated(BaseModel):
    """The answer to a timer that was stored."""

    model_config = ConfigDict(json_schema_extra={
        "example": {"id": _ID, "time_left": 5},
    })

    id: UUID = Field(description="Time-ordered (UUIDv7).")
    time_left: int = Field(description="Seconds until it expires.")


class TimerOut(BaseModel):
    """A timer as it stands now; times are Postgres's, in UTC."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "id": _ID,
        "time_left": 5,
        "status": "scheduled",
        "key": "order-17",
        "labels": {"user": "17"},
        "url": "https://example.com/hook",
        "method": "POST",
        "delivery": "once",
        "retry": None,
        "max_lateness": None,
        "fire_at": "2026-01-31T12:00:05Z",
        "next_at": "2026-01-31T12:00:05Z",
        "created_at": "2026-01-31T12:00:00Z",
        "fired_at": None,
        "attempts": 0,
        "late_ms": None,
        "status_code": None,
        "error": None,
    }})

    id: UUID
    time_left: int = Field(
        description="Whole seconds, rounded up; 0 exactly when expired."
    )
    status: Status = Field(
        description="scheduled: waiting. deferred: its host has as many"
        " calls as it may have at once, or answers none; see `error`."
        " retrying: tried, and will be again at `next_at`. firing: being"
        " called. delivered: answered 2xx. failed: another answer, or none"
        " for the reason in `error`. unknown: the request left, then the"
        " worker died. missed: not called within `max_lateness`."
        " cancelled: by DELETE, before it fired, or before another retry."
    )
    key: str | None
    labels: dict[str, str] | None
    url: str
    method: str
    delivery: Delivery
    retry: RetryIn | None
    max_lateness: int | None = Field(description="Seconds.")
    fire_at: datetime = Field(description="When it expires.")
    next_at: datetime | None = Field(
        description="While it waits: when it is called."
    )
    created_at: datetime
    fired_at: datetime | None = Field(
        description="When a worker claimed it, to call the URL."
    )
    attempts: int = Field(
        description="How often a worker set out to call."
    )
    late_ms: float | None = Field(
        description="How long after `fire_at` the last request had left."
    )
    status_code: int | None = Field(description="The receiver's answer.")
    error: str | None = Field(
        description="Why there is no answer: a kind such as `refused`, then"
        " what is known."
    )


class FieldError(BaseModel):
    """One field of a request that is wrong, and how to mend it."""

    field: str
    message: str


class ErrorOut(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "detail": "Not valid: url.",
        "errors": [{"field": "url", "message": "is required"}],
    }})

    detail: str
    errors: list[FieldError] = Field(
        default=[], description="Which fields are wrong, if any are."
    )
    id: UUID | None = Field(
        default=None, description="The timer that has the key."
    )


def timer_out(timer: StoredTimer) -> TimerOut:
    """Return a timer as the API shows it."""
    late_ms = timer.late_ms
    return TimerOut(
        id=timer.id,
        time_left=timer.time_left,
        status=timer.status,
        key=timer.key,
        labels=None if timer.labels is None else dict(timer.labels),
        url=timer.url,
        method=timer.method,
        delivery="at_least_once" if timer.at_least_once else "once",
        retry=RetryIn.of(timer.retry) if timer.retry else None,
        max_lateness=(
            None
            if timer.max_lateness is None
            else int(timer.max_lateness.total_seconds())
        ),
        fire_at=timer.due_at,
        next_at=timer.next_at if timer.waits else None,
        created_at=timer.created_at,
        fired_at=timer.fired_at,
        attempts=timer.attempts,
        late_ms=None if late_ms is None else round(late_ms, 3),
        status_code=timer.status_code,
        error=timer.error,
    )

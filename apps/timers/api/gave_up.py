"""What the API takes and gives about attempts and timers that gave up."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from apps.timers.api.fields import MostAtOnce, wrong
from apps.timers.api.finding import HostAndTimes, host_and_port
from apps.timers.models import GAVE_UP
from apps.timers.storage.records import Attempt, TimerFilter

GaveUp = Literal["failed", "unknown", "missed"]


class ReplayIn(HostAndTimes):
    """Which of the timers that gave up to replay: some ids, or a filter."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "host": "example.com", "from": "2026-01-31T12:00:00Z",
            }
        },
    )

    ids: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Instead of all other fields.",
    )
    status: list[GaveUp] = Field(
        default=["failed", "missed"],
        min_length=1,
        max_length=len(GAVE_UP),
        description="An unknown one may have been received, and is meant"
        " only if it is asked for.",
    )
    after: UUID | None = Field(
        default=None,
        description="Goes on where an answer ended: its `next`.",
    )
    limit: MostAtOnce = 1000

    @model_validator(mode="after")
    def _says_which(self) -> "ReplayIn":
        """Refuse what would replay everything by mistake."""
        if self.ids is not None and self.model_fields_set != {"ids"}:
            raise wrong("has ids and a filter; give one of them")
        narrowed = (self.ids, self.host, self.since, self.until)
        if all(value is None for value in narrowed):
            raise wrong("must have ids, or at least one of host, from and to")
        return self

    def timer_filter(self) -> TimerFilter:
        """Return the filter that the store takes."""
        host, port = host_and_port(self.host) if self.host else (None, None)
        return TimerFilter(
            self.status,
            host,
            port,
            since=self.since,
            until=self.until,
            after=self.after,
        )


class Replayed(BaseModel):
    """How many timers fire again, now."""

    model_config = ConfigDict(json_schema_extra={
        "example": {"replayed": 2, "next": None, "not_replayed": []},
    })

    replayed: int
    next: UUID | None = Field(
        default=None,
        description="If a filter's `limit` left more: `after` for those.",
    )
    not_replayed: list[UUID] = Field(
        default=[],
        description="The ids that did not give up, that were tried too"
        " often, or that no timer has.",
    )


class AttemptOut(BaseModel):
    """One time that a worker set out to call."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "number": 1,
        "due_at": "2026-01-31T12:00:05Z",
        "sent_at": "2026-01-31T12:00:05.002Z",
        "status_code": 503,
        "duration_ms": 31.4,
        "error": None,
        "answer": "Busy; try later.",
    }})

    number: int = Field(description="From 1; `timer-attempt` in the call.")
    due_at: datetime
    sent_at: datetime | None = Field(
        description="When the request had left, if it had."
    )
    status_code: int | None
    duration_ms: float | None = Field(
        description="With resolving the name; null if the worker died."
    )
    error: str | None = Field(description="As a timer's.")
    answer: str | None = Field(
        description="The first KiB of the answer's body."
    )


class AttemptsOut(BaseModel):
    """A timer's attempts, in order."""

    attempts: list[AttemptOut]


def attempt_out(attempt: Attempt) -> AttemptOut:
    """Return an attempt as the API shows it."""
    answer = attempt.answer
    duration_ms = None
    if attempt.duration is not None:
        duration_ms = round(attempt.duration.total_seconds() * 1000, 3)
    return AttemptOut(
        number=attempt.number,
        due_at=attempt.due_at,
        sent_at=attempt.sent_at,
        status_code=attempt.status_code,
        duration_ms=duration_ms,
        error=attempt.error,
        answer=None if answer is None else answer.decode(errors="replace"),
    )

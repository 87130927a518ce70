"""What the API takes and gives."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from ninja import Schema
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from apps.webhooks.guard import Guard, Refused
from apps.webhooks.target import InvalidURL, parse_target

TimerStatus = Literal[
    "scheduled", "deferred", "retrying", "firing",
    "delivered", "failed", "unknown", "missed", "cancelled",
]
Delivery = Literal["once", "at_least_once"]


def _whole_number(value: Any) -> Any:
    """Refuse what JSON calls anything but an integer, and name the fix."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PydanticCustomError(
            "whole_number",
            "must be a whole number, 0 or more, such as 5"
            " (not a string, a fraction, true or false)",
        )
    return value


def _url(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError(
            "url", "must be a string such as \"https://example.com/hook\""
        )
    return value


def _callable_url(value: str) -> str:
    guard = Guard(settings.WEBHOOK_ALLOWED_NETWORKS)
    try:
        guard.check_host(parse_target(value).host)
    except InvalidURL as error:
        reason = str(error)
    except Refused as error:
        reason = (
            f"{error}; it can be called only if the server's setting"
            f" WEBHOOK_ALLOWED_NETWORKS has {error.allowed_by}."
        )
    else:
        return value
    raise PydanticCustomError("url", "{reason}", {"reason": reason})


# The bound stands next to its type, else the API's document has it wrong.
Amount = Annotated[
    int, Field(ge=0, strict=True), BeforeValidator(_whole_number)
]
CallableURL = Annotated[
    str,
    BeforeValidator(_url),
    AfterValidator(_callable_url),
    Field(json_schema_extra={"format": "uri", "maxLength": 2048}),
]


class TimerIn(Schema):
    """A timer to be set: how long from now, and what to call then."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "hours": 0,
                "minutes": 0,
                "seconds": 5,
                "url": "https://example.com/hook",
            }
        },
    )

    hours: Amount = Field(description="Added to minutes and seconds.")
    minutes: Amount = Field(description="May exceed 59.")
    seconds: Amount = Field(description="May exceed 59.")
    url: CallableURL = Field(
        description="Absolute http or https URL, called exactly as given:"
        " at most 2,048 characters, no user:password, a public host (or one"
        " in the server's WEBHOOK_ALLOWED_NETWORKS)."
    )
    delivery: Delivery = Field(
        default="once",
        description="at_least_once: should a worker die after the request"
        " left and before the answer came, the request is sent again.",
    )

    @model_validator(mode="after")
    def _not_too_far(self) -> "TimerIn":
        most = settings.MAX_TIMER_DAYS
        if self.total_seconds > most * 86_400:
            raise PydanticCustomError(
                "too_far",
                "hours, minutes and seconds add up to more than {most}"
                " days, the most that this server takes (MAX_TIMER_DAYS)",
                {"most": most},
            )
        return self

    @property
    def total_seconds(self) -> int:
        """The delay in seconds."""
        return self.hours * 3600 + self.minutes * 60 + self.seconds

    @property
    def delay(self) -> timedelta:
        """The delay."""
        return timedelta(seconds=self.total_seconds)


class TimerCreated(Schema):
    """The answer to a timer that was stored."""

    id: UUID = Field(description="Time-ordered (UUIDv7).")
    time_left: int = Field(description="Seconds until it expires.")


class TimerOut(Schema):
    """A timer as it stands now; times are Postgres's, in UTC."""

    id: UUID
    time_left: int = Field(
        description="Whole seconds, rounded up; 0 exactly when expired."
    )
    status: TimerStatus = Field(
        description="scheduled: waiting. deferred: its host has as many"
        " calls as it may have at once, or answers none; see `error`."
        " retrying: tried, and will be again at `next_at`. firing: being"
        " called. delivered: answered 2xx. failed: another answer, or none"
        " for the reason in `error`. unknown: the request left, then the"
        " worker died. missed: not called within `max_lateness`."
        " cancelled: by DELETE, before it fired, or before another retry."
    )
    url: str
    method: str
    delivery: Delivery
    retry: dict[str, Any] | None
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


class FieldError(Schema):
    """One field of a request that is wrong, and how to mend it."""

    field: str
    message: str


class ErrorOut(Schema):
    """Why a request was refused."""

    detail: str
    errors: list[FieldError] = Field(
        default=[], description="Which fields are wrong, if any are."
    )

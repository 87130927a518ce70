"""When a timer fires: the fields that say it."""

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, NamedTuple

from django.conf import settings
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from apps.timers import moments
from apps.timers.api.fields import whole_number, wrong

#: How long ago a `fire_at` may be: a request may have been held up.
_PAST = timedelta(minutes=5)


_amount, _window = whole_number(), whole_number(1, 86_400)

# The bounds stand next to the type, else the API's document has them wrong.
Amount = Annotated[int, Field(ge=0, strict=True)] | None
Window = Annotated[
    Annotated[int, Field(ge=1, le=86_400, strict=True)] | None,
    BeforeValidator(lambda value: None if value is None else _window(value)),
]

_ABSENT, _GIVEN = {"type": "null"}, {"type": "integer"}
_AMOUNTS = ("hours", "minutes", "seconds")
#: What JSON Schema says of a timer that needs a time: a moment, or a delay.
TIME_SCHEMA: dict[str, Any] = {
    "if": {
        "required": ["fire_at"], "properties": {"fire_at": {"type": "string"}}
    },
    "then": {"properties": dict.fromkeys(_AMOUNTS, _ABSENT)},
    "else": {
        "required": list(_AMOUNTS),
        "properties": {
            **dict.fromkeys(_AMOUNTS, _GIVEN),
            "timezone": _ABSENT,
        },
    },
}


class When(NamedTuple):
    """When a timer fires; `time_left` is in whole seconds, rounded up.

    `delay` counts from Postgres's clock. It is by this machine's clock, and
    only an estimate, if there is a `due_at`.
    """

    delay: timedelta
    due_at: datetime | None
    time_left: int


def moment(value: Any, timezone: str | None = None) -> datetime:
    """Return a moment that a caller gave; raise pydantic's error if it can't.

    It has an offset, or is a local time of `timezone`.
    """
    if not isinstance(value, str):
        raise wrong('must be a string such as "2026-01-31T12:00:00Z"')
    try:
        return moments.parse(value, timezone)
    except moments.UnknownZone as error:
        raise PydanticCustomError(
            "zone", "{sentence}",
            {"sentence": str(error), "fields": ["timezone"]},
        ) from None
    except moments.InvalidMoment as error:
        raise wrong(str(error)) from None


def not_too_far(value: datetime) -> datetime:
    """Return a moment that this server takes as a timer's time."""
    ahead = value - datetime.now(UTC)
    if -ahead > _PAST:
        ago = timedelta(seconds=int(-ahead.total_seconds()))
        raise wrong(
            f"was {ago} ago; it may be 5 minutes ago at most, and then the"
            " timer fires at once"
        )
    if ahead > timedelta(days=settings.MAX_TIMER_DAYS):
        raise wrong(
            f"is more than {settings.MAX_TIMER_DAYS} days ahead, the most"
            " that this server takes (MAX_TIMER_DAYS)"
        )
    return value


class TimesIn(BaseModel):
    """When a timer fires: after a delay, or at a moment."""

    needs_time: ClassVar[bool] = True

    timezone: Annotated[str, Field(max_length=64)] | None = Field(
        default=None,
        description="An IANA name, for a `fire_at` without an offset.",
        examples=["Europe/Berlin"],
    )
    fire_at: datetime | None = Field(
        default=None,
        description="In place of hours, minutes and seconds: RFC 3339 with an"
        " offset, or without one and with `timezone`. A local time that a"
        " clock change skips is the first moment after the gap; of one that"
        " comes twice, it is the earlier. Up to 5 minutes ago fires at once.",
        examples=["2026-01-31T12:00:00+01:00"],
    )
    hours: Amount = Field(
        default=None,
        validate_default=True,
        description="Added to minutes and seconds.",
    )
    minutes: Amount = Field(
        default=None, validate_default=True, description="May exceed 59."
    )
    seconds: Amount = Field(
        default=None, validate_default=True, description="May exceed 59."
    )
    window: Window = Field(
        default=None,
        description="Seconds. The timer fires at one moment within them,"
        " counted from its time. Timers that share a window are spread evenly"
        " over it. `fire_at` shows the moment.",
    )

    @field_validator("fire_at", mode="before")
    @classmethod
    def _moment(cls, value: Any, info: ValidationInfo) -> datetime | None:
        if value is None:
            return None
        return not_too_far(moment(value, info.data.get("timezone")))

    @field_validator("hours", "minutes", "seconds", mode="before")
    @classmethod
    def _one_way(cls, value: Any, info: ValidationInfo) -> int | None:
        fire_at = info.data.get("fire_at", "is not valid")
        if value is None:
            if fire_at is None and cls.needs_time:
                raise wrong("is required, unless there is a fire_at")
            return None
        amount = _amount(value)
        if isinstance(fire_at, datetime):
            raise wrong("stands beside fire_at; give one of the two")
        return amount

    @model_validator(mode="after")
    def _fits(self) -> "TimesIn":
        if self.timezone is not None and self.fire_at is None:
            raise PydanticCustomError(
                "alone",
                "is for a fire_at without an offset; there is none",
                {"fields": ["timezone"]},
            )
        if self.fire_at is None and not self.needs_time:
            self._check_whole_time()
        most = settings.MAX_TIMER_DAYS
        if self.total_seconds > most * 86_400:
            raise PydanticCustomError(
                "too_far",
                "hours, minutes and seconds add up to more than {most}"
                " days, the most that this server takes (MAX_TIMER_DAYS)",
                {"most": most, "fields": list(_AMOUNTS)},
            )
        return self

    def _check_whole_time(self) -> None:
        missing = [name for name in _AMOUNTS if getattr(self, name) is None]
        if missing and (len(missing) < 3 or self.window is not None):
            raise PydanticCustomError(
                "missing_time",
                "is required, unless there is a fire_at",
                {"fields": missing},
            )

    @property
    def has_time(self) -> bool:
        """Whether a time is given."""
        return self.fire_at is not None or self.hours is not None

    @property
    def total_seconds(self) -> int:
        """The delay in seconds, 0 if there is none."""
        return (
            (self.hours or 0) * 3600
            + (self.minutes or 0) * 60
            + (self.seconds or 0)
        )

    def when(self) -> When:
        """Return when the timer fires; each call picks anew in a window."""
        total = self.total_seconds
        delay, due_at = timedelta(seconds=total), self.fire_at
        if due_at is None and self.window is None:
            return When(delay, None, total)
        now = datetime.now(UTC)
        if due_at is not None:
            delay = max(timedelta(0), due_at - now)
        if self.window is not None:
            start = due_at or (now + delay).replace(microsecond=0)
            spread = moments.spread(self.window, start)
            delay += spread
            due_at = due_at and due_at + spread
        return When(delay, due_at, math.ceil(delay.total_seconds()))

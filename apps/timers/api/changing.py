"""What the API takes to change a timer, and to put one by its key."""

from datetime import datetime
from typing import Annotated, Any, ClassVar

import pydantic
from ninja.errors import ValidationError
from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from apps.timers.api.definition import (
    DefinitionIn,
    Delivery,
    Method,
    RetryIn,
    as_object,
)
from apps.timers.api.fields import CallableURL, Headers, Labels, Lateness
from apps.timers.api.times import TIME_SCHEMA, TimesIn, moment
from apps.timers.storage.by_key import IfExists
from apps.timers.storage.records import Definition
from apps.webhooks import jsontext
from apps.webhooks.request import is_json

_STAYS = "Left out, it stays; null takes it away."


class PatchIn(TimesIn):
    """What is to change about a timer; the rest stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {
            "fire_at": "2026-01-31T12:00:00Z", "labels": {"user": "17"},
        }},
    )
    needs_time: ClassVar[bool] = False

    url: CallableURL | None = None
    delivery: Delivery | None = None
    method: Method | None = None
    headers: Headers = Field(default=None, description=_STAYS)
    body: Any = Field(default=None, description=_STAYS)
    retry: Annotated[RetryIn | None, BeforeValidator(as_object)] = Field(
        default=None, description=_STAYS
    )
    max_lateness: Lateness | None = Field(default=None, description=_STAYS)
    labels: Labels = Field(default=None, description=_STAYS)

    @property
    def redefines(self) -> bool:
        """Whether anything but the time is to change."""
        return bool(self.model_fields_set & DefinitionIn.model_fields.keys())

    def merged_with(self, old: Definition, body: bytes) -> Definition:
        """Return a definition with the changes of this request's body.

        Raises ninja's ValidationError if the two together are not valid.
        """
        given = jsontext.loads(body)
        fields = _fields_of(old) | {
            name: value
            for name, value in given.items()
            if name in DefinitionIn.model_fields
        }
        for name in ("method", "delivery"):
            if fields[name] is None:
                del fields[name]
        try:
            return DefinitionIn.model_validate(fields).definition
        except pydantic.ValidationError as error:
            raise ValidationError([
                {**each, "loc": ("body", "body", *each["loc"])}
                for each in error.errors(include_url=False)
            ]) from None


def _fields_of(old: Definition) -> dict[str, Any]:
    """Return the fields that ask for a definition."""
    request = old.request
    body: Any = None
    if request.body is not None:
        body = (
            jsontext.loads(request.body)
            if is_json(request.headers)
            else request.body.decode(errors="replace")
        )
    return {
        "url": old.url,
        "delivery": "at_least_once" if old.at_least_once else "once",
        "method": request.method,
        "headers": None if request.headers is None else dict(request.headers),
        "body": body,
        "retry": old.retry and RetryIn.of(old.retry).model_dump(),
        "max_lateness": (
            old.max_lateness and int(old.max_lateness.total_seconds())
        ),
        "labels": None if old.labels is None else dict(old.labels),
    }


class PutIn(DefinitionIn, TimesIn):
    """A timer that is to have the key of the path."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {
            "hours": 0, "minutes": 5, "seconds": 0,
            "url": "https://example.com/idle", "if_exists": "extend",
            "latest_at": "2026-01-31T12:00:00Z",
        }, **TIME_SCHEMA},
    )

    if_exists: IfExists = Field(
        default="replace",
        description="What becomes of a timer that has the key and waits."
        " replace: all that is given takes the place of what was. keep: it"
        " stays as it is. extend: only its time changes.",
    )
    latest_at: datetime | None = Field(
        default=None,
        description="RFC 3339 with an offset: `extend` never moves the timer"
        " beyond it. The one of the first call counts.",
        examples=["2026-01-31T12:00:00Z"],
    )

    @field_validator("latest_at", mode="before")
    @classmethod
    def _latest(cls, value: Any) -> datetime | None:
        return None if value is None else moment(value)

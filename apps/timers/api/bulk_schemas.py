"""What the API takes and gives about many timers at once."""

from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from apps.timers.api.fields import MostAtOnce, wrong
from apps.timers.api.finding import FilterIn
from apps.timers.api.schemas import FieldError
from apps.timers.storage.records import TimerFilter

#: The statuses of timers that can be cancelled.
Waiting = Literal["scheduled", "deferred", "retrying"]

LINES = "application/x-ndjson"
#: Items of an array, at most.
MOST_ITEMS = 10_000

_RESULTS = (
    '{"id":"01a21bd8-6054-705a-b288-d4e597a0b251","time_left":5}\n'
    '{"errors": [{"field": "key", "message": "belongs to timer'
    ' 01a21bd8-5f11-7cc2-8d50-0a4f0f6f8d3b, which has not ended"}],'
    ' "id": "01a21bd8-5f11-7cc2-8d50-0a4f0f6f8d3b"}\n'
)
#: What the API's document has of POST /timers beside its parameters. Tools
#: that make clients don't know NDJSON, so the operation's text tells of it.
DOCUMENT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "maxItems": MOST_ITEMS,
                    "items": {"$ref": "#/components/schemas/TimerIn"},
                },
                "example": [
                    {"hours": 0, "minutes": 0, "seconds": 5,
                     "url": "https://example.com/a"},
                    {"fire_at": "2027-01-31T12:00:00Z", "key": "order-17",
                     "url": "https://example.com/b"},
                ],
            },
        },
    },
    "responses": {
        200: {
            "content": {
                LINES: {
                    "schema": {
                        "type": "string",
                        "description": "A result a line, if lines were sent.",
                    },
                    "example": _RESULTS,
                }
            }
        }
    },
}


class Refused(BaseModel):
    """The result for a timer that was not stored."""

    errors: list[FieldError]
    id: UUID | None = Field(
        default=None, description="The timer that has the key."
    )


class CancelIn(FilterIn):
    """Which of the timers that wait to cancel: some ids, or a filter."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "host": "example.com",
                "from": "2026-01-31T12:00:00Z",
                "dry_run": True,
            }
        },
    )

    ids: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Instead of a filter and limit.",
    )
    status: list[Waiting] = Field(
        default=[],
        max_length=3,
        description="Any of these. Left out: all three.",
    )
    dry_run: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Count them, and cancel none."
    )
    limit: MostAtOnce = 1000

    @model_validator(mode="after")
    def _says_which(self) -> "CancelIn":
        """Refuse what would cancel everything by mistake."""
        if self.ids is not None and self.model_fields_set - {"ids", "dry_run"}:
            raise wrong("has ids and a filter; give one of them")
        narrowed = (self.host, self.label, self.key, self.since, self.until)
        if self.ids is None and not any(narrowed):
            raise wrong(
                "must have ids, or at least one of host, label, key, from"
                " and to"
            )
        return self

    def timer_filter(self) -> TimerFilter:
        """Return the filter that the store takes."""
        return self.with_status(self.status or get_args(Waiting))


class Cancelled(BaseModel):
    """How many timers were cancelled."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"found": 17, "cancelled": 17, "has_more": False}
        }
    )

    found: int = Field(
        description="How many were meant: the ids, or those that the filter"
        " finds, up to `limit`."
    )
    cancelled: int = 0
    has_more: bool = Field(
        default=False,
        description="Whether the filter finds more: ask again for those.",
    )
    not_cancelled: list[UUID] = Field(
        default=[],
        description="Those that were called or ended meanwhile, or that no"
        " timer has.",
    )

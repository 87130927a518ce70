"""The endpoint of the log: who did what to an account's things."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import NinjaAPI, Query, Router
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from apps.accounts import services
from apps.accounts.log import DAYS_KEPT, UnknownEntry
from apps.core.answers import not_valid
from apps.core.callers import account_of

router = Router(tags=["account"])

_ID = "5a4f1c52-3a64-4f5e-9d0c-6b1f4b1c2d3e"
_EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "at": "2026-01-31T12:00:00.123456Z",
    "key": "4hX2bQ9z",
    "operator": None,
    "address": "192.0.2.7",
    "action": "cancel",
    "object": "timers by host and from",
    "count": 17,
}


_NO_ENTRY = "is no entry; it must be an answer's `next`"


def _entry(value: Any) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise PydanticCustomError("entry", _NO_ENTRY) from None


class LogQuery(BaseModel):
    """Which page of the log."""

    after: Annotated[UUID, BeforeValidator(_entry)] | None = Field(
        default=None,
        description="Goes on where an answer ended: its `next`.",
        json_schema_extra={"example": _ID},
    )
    limit: int = Field(
        default=100, ge=1, le=1000, description="Entries on a page."
    )


class LogEntryOut(BaseModel):
    """A change: who did what, when, and from where."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: UUID
    at: datetime
    key: str | None = Field(
        description="The prefix of the API key that was sent."
    )
    operator: str | None = Field(
        description="Who did it without a key: a user of the server and the"
        " command, or a user of the admin pages. Null without a key as well:"
        " nobody had to say who they are."
    )
    address: str | None = Field(
        description="The IP address from which it was asked for. Null: it was"
        " a command."
    )
    action: str = Field(
        description="create, revoke, limit, hold, release, reconcile, cancel,"
        " erase, fire or replay; there may be more."
    )
    object: str = Field(
        description="What it was done to. Of timers that were found by a"
        " filter, only what the filter was by."
    )
    count: int | None = Field(
        description="Of how many timers, if it was a change in bulk."
    )


class LogOut(BaseModel):
    """One page of the log, the latest entry first."""

    entries: list[LogEntryOut]
    next: UUID | None = Field(
        description="If there are more: `after` for the next page."
    )


@router.get(
    "/account/log",
    response=LogOut,
    summary="List who did what",
    description="Return what was changed by operators and by keys with the"
    " scope `admin`, and what was changed in bulk, the latest first. It is"
    f" kept for {DAYS_KEPT} days.",
)
def list_log(request: HttpRequest, which: Query[LogQuery]) -> LogOut:
    """Return a page of the account's log."""
    entries, after = services.list_log(
        account_of(request), which.limit, which.after
    )
    return LogOut(
        entries=[
            LogEntryOut.model_validate(each, from_attributes=True)
            for each in entries
        ],
        next=after,
    )


def add_errors_to(api: NinjaAPI) -> None:
    """Have the API answer what the log raises."""
    api.add_exception_handler(
        UnknownEntry,
        lambda *_: not_valid([("after", _NO_ENTRY)]),
    )

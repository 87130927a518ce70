"""Finding timers: the list's filters, its answer and its endpoint."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from apps.core.callers import account_of
from apps.timers import services
from apps.timers.api.fields import (
    LABEL_NAME,
    MOST_LABELS,
    is_storable,
    wrong,
)
from apps.timers.api.schemas import (
    ErrorOut,
    TimerOut,
    timer_out,
)
from apps.timers.storage.records import STATUSES, Status, TimerFilter
from apps.webhooks.target import InvalidURL, parse_target

router = Router(tags=["timers"])

_HOST_AND_PORT = re.compile(r"[^/?#]*?(:[0-9]{1,5})?")


def host_and_port(text: str) -> tuple[str, int | None]:
    """Return a host as timers keep it, and its port if one is given.

    Raises InvalidURL.
    """
    given = _HOST_AND_PORT.fullmatch(text)
    if given is None:
        raise InvalidURL("Give a host or host:port, and nothing after it.")
    target = parse_target(f"http://{text}")
    return target.host, target.port if given[1] else None


def _host(value: Any) -> Any:
    try:
        if isinstance(value, str):
            host_and_port(value)
    except InvalidURL as error:
        raise wrong(str(error)) from None
    return value


def _moment(value: Any) -> Any:
    """Take only a time with its offset; pydantic would also take numbers."""
    with suppress(TypeError, ValueError):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment
    raise wrong(
        "must be an ISO 8601 time with its offset, such as"
        " 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00"
        " (in a query + is written %2B)",
    )


def _label(text: str) -> str:
    name, colon, value = text.partition(":")
    if not colon or not LABEL_NAME.fullmatch(name):
        raise wrong(
            "must be name:value, such as user:17; a name is made of a-z, 0-9,"
            " `.`, `_` and `-`, and has 1 to 64 characters"
        )
    if len(value) > 255 or not is_storable(value):
        raise wrong(
            "must have a value of up to 255 characters, and no U+0000"
        )
    return text


def _key(text: str) -> str:
    if text == "*":
        raise wrong(
            "is * alone; give the beginning of a key before it, or leave"
            " `key` out for all timers"
        )
    if not 1 <= len(text.removesuffix("*")) <= 255 or not is_storable(text):
        raise wrong(
            "must be a key of 1 to 255 characters, or its beginning and *,"
            " such as order-*"
        )
    return text


Host = Annotated[str, BeforeValidator(_host)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Label = Annotated[str, AfterValidator(_label)]
KeyOrPrefix = Annotated[str, AfterValidator(_key)]


class HostAndTimes(BaseModel):
    """Which timers are meant, by their host and their `fire_at`."""

    host: Host | None = Field(
        default=None,
        description="The URL's host, with or without `:port`; an IPv6"
        " address in brackets; any spelling of it will do.",
        json_schema_extra={"example": "example.com"},
    )
    since: Moment | None = Field(
        default=None,
        alias="from",
        description="The earliest `fire_at`: ISO 8601, with an offset.",
        json_schema_extra={"example": "2026-01-31T12:00:00Z"},
    )
    until: Moment | None = Field(
        default=None,
        alias="to",
        description="`fire_at` is before it.",
        json_schema_extra={"example": "2026-02-01T12:00:00Z"},
    )

    def given(self) -> str:
        """Name the filters that are used, without what they are for."""
        names = [
            field.alias or name
            for name, field in type(self).model_fields.items()
            if name in ("host", "since", "until", "label", "key", "status")
            and name in self.model_fields_set
            and getattr(self, name)
        ]
        return ", ".join(names)


class FilterIn(HostAndTimes):
    """Which timers are meant: those that all filters let through."""

    label: list[Label] = Field(
        default=[],
        max_length=MOST_LABELS,
        description="A label's name and value, with a colon between them."
        " Of several, all must match.",
        json_schema_extra={"example": ["user:17"]},
    )
    key: KeyOrPrefix | None = Field(
        default=None,
        description="The whole key, or its beginning and `*`.",
        json_schema_extra={"example": "order-*"},
    )

    @model_validator(mode="after")
    def _has_an_index(self) -> "FilterIn":
        """Refuse what could only be found by reading all timers."""
        given = [
            name for name in ("host", "label", "key") if getattr(self, name)
        ]
        if len(given) > 1:
            raise PydanticCustomError(
                "no_index",
                "{sentence}",
                {
                    "sentence": "no index has host, label and key together:"
                    " give one of them, with status, from and to; or give"
                    " the timers one more label, and ask for labels only",
                    "fields": given[1:],
                },
            )
        return self

    def with_status(self, statuses: Sequence[str]) -> TimerFilter:
        """Return the filter that the store takes."""
        host, port = host_and_port(self.host) if self.host else (None, None)
        key = self.key
        return TimerFilter(
            statuses,
            host,
            port,
            key and key.removesuffix("*"),
            key is not None and key.endswith("*"),
            [pair(label) for label in self.label],
            self.since,
            self.until,
        )


def pair(label: str) -> tuple[str, str]:
    """Return a label's name and its value."""
    name, _, value = label.partition(":")
    return name, value


class TimersQuery(FilterIn):
    """Which timers to list, and which page of them."""

    status: list[Status] = Field(
        default=[],
        max_length=len(STATUSES),
        description="Any of these. Left out: all.",
        json_schema_extra={"example": ["failed", "missed"]},
    )
    after: UUID | None = Field(
        default=None,
        description="Goes on where an answer ended: its `next`.",
        json_schema_extra={
            "example": "01a21bd8-6054-705a-b288-d4e597a0b251"
        },
    )
    limit: int = Field(
        default=100, ge=1, le=1000, description="Timers on a page."
    )
    order: Literal["asc", "desc"] = Field(
        default="asc", description="desc: the latest `fire_at` first."
    )

    def timer_filter(self) -> TimerFilter:
        """Return the filter that the store takes, with its place."""
        return replace(
            self.with_status(self.status),
            after=self.after,
            latest_first=self.order == "desc",
        )


class TimersOut(BaseModel):
    """One page of timers, ordered by `fire_at`, then `id`."""

    timers: list[TimerOut]
    next: UUID | None = Field(
        description="If there are more: `after` for the next page."
    )


@router.get(
    "/timers",
    response={200: TimersOut, frozenset({414, 422, 503}): ErrorOut},
    summary="List timers",
)
def list_timers(request: HttpRequest, which: Query[TimersQuery]) -> TimersOut:
    """Return timers by `fire_at`, then `id`, a page at a time.

    Only one of host, label and key can be asked for at a time. A timer that
    is moved meanwhile may be on two pages, or on none.
    """
    timers, after = services.find_timers(
        account_of(request), which.timer_filter(), which.limit
    )
    return TimersOut(timers=[timer_out(each) for each in timers], next=after)

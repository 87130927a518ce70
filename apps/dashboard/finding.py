"""The page Timers: the filters of `GET /timers` as a form, and its pages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from django.http import HttpRequest, HttpResponse, QueryDict
from django.views.decorators.http import require_GET

from apps.core.callers import account_of
from apps.core.sentences import field_errors
from apps.dashboard.pages import page, show
from apps.timers import services
from apps.timers.api.finding import TimersQuery
from apps.timers.storage.records import STATUSES

#: Timers on a page.
_LIMIT = 50
_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$", re.IGNORECASE)
_ONE = ("host", "key", "from", "to", "after", "order")


@require_GET
@page
def timers(request: HttpRequest) -> HttpResponse:
    """Show a page of timers."""
    given = _given(request.GET)
    values = {
        "given": given,
        "statuses": STATUSES,
        "filters": sum(
            bool(given.get(name)) for name in
            ("status", "host", "label", "key", "from", "to")
        ),
        "is_ascending": given["order"] == "asc",
        "turned": _link(
            given, order="desc" if given["order"] == "asc" else "asc",
            after=None,
        ),
        "first": _link(given, after=None) if "after" in given else None,
    }
    try:
        query = TimersQuery.model_validate(
            {**given, **_in_utc(given), "limit": _LIMIT}
        )
        found, after = services.find_timers(
            account_of(request), query.timer_filter(), _LIMIT
        )
    except pydantic.ValidationError as error:
        return show(
            request, "dashboard/timers.html", 422, **values,
            errors=_sentences(error),
        )
    except services.UnknownPlace:
        return show(
            request, "dashboard/timers.html", 422, **values,
            errors={"after": "is no timer: begin with the first page"},
        )
    return show(
        request, "dashboard/timers.html", **values, timers=found,
        next=after and _link(given, after=str(after)),
    )


def _given(query: QueryDict) -> dict[str, Any]:
    """Return what was filled in; a form sends empty fields as well."""
    given: dict[str, Any] = {"order": "desc"}
    for name in _ONE:
        if value := query.get(name, "").strip():
            given[name] = value
    for name in ("status", "label"):
        if values := [text for text in query.getlist(name) if text.strip()]:
            given[name] = values
    return given


def _in_utc(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the times, with their offsets."""
    return {
        name: in_utc(given[name]) for name in ("from", "to") if name in given
    }


def in_utc(text: str) -> str:
    """Return a time with its offset: if it has none, it is in UTC."""
    return text if _OFFSET.search(text) else f"{text}Z"


def _link(given: Mapping[str, Any], **changes: str | None) -> str:
    query = QueryDict(mutable=True)
    for name, value in {**given, **changes}.items():
        if isinstance(value, list):
            query.setlist(name, value)
        elif value is not None:
            query[name] = value
    return f"/dashboard/timers?{query.urlencode()}"


def _sentences(error: pydantic.ValidationError) -> dict[str, str]:
    """Return what is wrong with each field."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        # An item of a list is shown beside the list.
        names: Sequence[str | int] = item["loc"][:1]
        found.update(field_errors(item, names or ["body"], lambda _: []))
    return found

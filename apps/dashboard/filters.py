"""The filters of the page Timers: those of `GET /timers`, as a form."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from django.http import QueryDict

from apps.core.sentences import field_errors
from apps.timers.api.finding import TimersQuery

_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$", re.IGNORECASE)
_ONE = ("host", "key", "from", "to", "after", "order")
_FILTERS = ("status", "host", "label", "key", "from", "to")


def given(query: QueryDict) -> dict[str, Any]:
    """Return what was filled in; a form sends empty fields as well."""
    found: dict[str, Any] = {"order": "desc"}
    for name in _ONE:
        if value := query.get(name, "").strip():
            found[name] = value
    for name in ("status", "label"):
        if values := [text for text in query.getlist(name) if text.strip()]:
            found[name] = values
    return found


def filled(given: Mapping[str, Any]) -> list[str]:
    """Return the names of the filters that are filled in."""
    return [name for name in _FILTERS if given.get(name)]


def query(given: Mapping[str, Any], **more: Any) -> TimersQuery:
    """Return what the API would be asked for.

    Times without an offset are in UTC. Raises pydantic.ValidationError.
    """
    times = {
        name: in_utc(given[name]) for name in ("from", "to") if name in given
    }
    return TimersQuery.model_validate({**given, **times, **more})


def in_utc(text: str) -> str:
    """Return a time with its offset: if it has none, it is in UTC."""
    return text if _OFFSET.search(text) else f"{text}Z"


def link(given: Mapping[str, Any], **changes: str | None) -> str:
    """Return the address of the list with these filters."""
    query = QueryDict(mutable=True)
    for name, value in {**given, **changes}.items():
        if isinstance(value, list):
            query.setlist(name, value)
        elif value is not None:
            query[name] = value
    return f"/dashboard/timers?{query.urlencode()}"


def sentences(error: pydantic.ValidationError) -> dict[str, str]:
    """Return what is wrong with each field."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        # An item of a list is shown beside the list.
        names: Sequence[str | int] = item["loc"][:1]
        found.update(field_errors(item, names or ["body"], lambda _: []))
    return found

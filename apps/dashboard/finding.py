"""The page Timers: a form with the filters of `GET /timers`, and its pages."""

from collections.abc import Callable

import pydantic
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from apps.core.callers import account_of
from apps.dashboard import filters, many
from apps.dashboard.pages import page, show
from apps.timers import services
from apps.timers.storage import suggesting
from apps.timers.storage.records import STATUSES

#: Timers on a page.
_LIMIT = 50

#: The functions that find suggestions for a field. They take the account and
#: the beginning of a value.
_SUGGESTED: dict[str, Callable[[int, str], list[str]]] = {
    "host": suggesting.hosts,
    "key": suggesting.keys,
    "label": suggesting.labels,
}


@require_GET
@page
def timers(request: HttpRequest) -> HttpResponse:
    """Show a page of timers."""
    given = filters.given(request.GET)
    order = "desc" if given["order"] == "asc" else "asc"
    values = {
        "given": given,
        "statuses": STATUSES,
        "filters": len(filters.filled(given)),
        "is_ascending": given["order"] == "asc",
        "turned": filters.link(given, order=order, after=None),
        "first": (
            filters.link(given, after=None) if "after" in given else None
        ),
        "result": many.result(request.GET),
        "actions": many.ACTIONS,
        "suggested": _suggested(account_of(request)),
    }
    try:
        found, after = services.find_timers(
            account_of(request),
            filters.query(given, limit=_LIMIT).timer_filter(), _LIMIT,
        )
    except pydantic.ValidationError as error:
        return show(
            request, "dashboard/timers.html", 422, **values,
            errors=filters.sentences(error),
        )
    except services.UnknownPlace:
        return show(
            request, "dashboard/timers.html", 422, **values,
            errors={"after": "is no timer: begin with the first page"},
        )
    return show(
        request, "dashboard/timers.html", **values, timers=found,
        next=after and filters.link(given, after=str(after)),
    )


def _suggested(account: int) -> dict[str, list[str]]:
    return {
        name: services.suggest(what, account, "")
        for name, what in _SUGGESTED.items()
    }


@require_GET
@page
def suggestions(request: HttpRequest, field: str) -> HttpResponse:
    """Return what a field may be filled with, given its beginning."""
    if field not in _SUGGESTED:
        raise Http404
    beginning = request.GET.get(field, "").replace("\0", "")[:255]
    found = services.suggest(
        _SUGGESTED[field], account_of(request), beginning
    )
    return show(request, "dashboard/options.html", options=found)

"""The inboxes' URLs: calls come in, pages and programs look at them."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET, require_POST

from apps.accounts import signing
from apps.core import waits
from apps.core.answers import error_response, not_valid
from apps.core.callers import account_of
from apps.core.reaching import PostgresAway, reaching_postgres
from apps.dashboard.pages import failure, page, show
from apps.inbox import storage
from apps.inbox.addresses import url, url_for
from apps.inbox.answers import MOST_SECONDS, TIMED, kinds, respond
from apps.inbox.arrivals import arrivals
from apps.inbox.shown import ShownCall, words
from apps.inbox.storage import METHODS, MOST_BODY, Answer, NewCall
from apps.timers import services
from apps.timers.storage.records import Definition

View = Callable[..., HttpResponseBase]

#: The inbox that links lead to.
FIRST = "hello"
#: Calls on a page, and in an answer to programs.
_ON_PAGE, _MOST_CALLS = 50, 100
#: How long a program's request may wait, in seconds.
_MOST_WAIT = 10


def if_on(view: View) -> View:
    """Let a view be there only if the setting INBOX turns inboxes on."""

    @wraps(view)
    def checked(request: HttpRequest, **values: Any) -> HttpResponseBase:
        if not settings.INBOX:
            raise Http404
        return view(request, **values)

    return checked


def for_programs(view: View) -> View:
    """Let a view answer in JSON that Postgres is away."""

    @wraps(view)
    def answered(request: HttpRequest, **values: Any) -> HttpResponseBase:
        try:
            return view(request, **values)
        except PostgresAway:
            return error_response(
                503, "Postgres can't be reached; try again.", Retry_After="1"
            )

    return answered


@if_on
@require_GET
def first(request: HttpRequest) -> HttpResponse:
    """Lead to an inbox."""
    return HttpResponseRedirect(f"/inbox/{FIRST}")


@if_on
def inbox(request: HttpRequest, name: str) -> HttpResponseBase:
    """Take a call, or show a browser what has come."""
    if request.method == "GET" and "webhook-id" not in request.headers:
        return look(request, name=name)
    if request.method in METHODS:
        return take(request, name=name)
    return HttpResponseNotAllowed(sorted(METHODS))


@for_programs
def take(request: HttpRequest, name: str) -> HttpResponseBase:
    """Keep a call and answer it."""
    began = time.monotonic()
    if len(request.body) > MOST_BODY:
        return error_response(
            413, f"At most {MOST_BODY:,} bytes are kept: no timer sends more."
        )
    with reaching_postgres():
        answer = storage.keep(
            NewCall(
                name,
                request.method or "",
                request.META["QUERY_STRING"],
                _headers(request),
                request.body,
                timedelta(seconds=time.monotonic() - began),
            )
        )
    return respond(request, answer)


def _headers(request: HttpRequest) -> dict[str, str]:
    """Return what was sent; WSGI has two headers even if they were not."""
    return {
        name.lower(): value
        for name, value in request.headers.items()
        if value or name not in ("Content-Length", "Content-Type")
    }


@page
def look(request: HttpRequest, name: str) -> HttpResponse:
    """Show an inbox's page."""
    with reaching_postgres():
        storage.prune()
        calls = storage.latest(name, _ON_PAGE)
        answer = storage.answer(name)
    return show(
        request,
        "inbox/inbox.html",
        **_part(request, name, calls[0].id if calls else 0, calls),
        url=url_for(name, answer),
        web_url=url(name),
        here=request.build_absolute_uri("/"),
        timer=request.GET.get("timer", "")[:64],
        answer=answer,
        answers=words(answer),
        kinds=kinds(),
        timed=TIMED,
        most_seconds=MOST_SECONDS,
    )


@if_on
@require_GET
@page
def newer(request: HttpRequest, name: str) -> HttpResponse:
    """Return the calls since, for a page that is open; 204 if none."""
    after = _number(request.GET.get("after", "0"), 0, 2**63 - 1)
    if after is None:
        raise Http404
    with reaching_postgres():
        calls = storage.after(name, after, _ON_PAGE)
    if not calls:
        return HttpResponse(status=204)
    return show(
        request,
        "inbox/newer.html",
        **_part(request, name, calls[-1].id, calls[::-1]),
    )


def _part(
    request: HttpRequest, name: str, last: int, calls: list[storage.Call]
) -> dict[str, Any]:
    """Return what the list of calls is made of."""
    return {"name": name, "last": last, "calls": _shown(request, calls)}


def _shown(
    request: HttpRequest, calls: list[storage.Call]
) -> list[ShownCall]:
    """Return calls as they are seen by the request's account."""
    with reaching_postgres(), suppress(signing.UnreadableSecret):
        keys = signing.keys_of(account_of(request))
        return [ShownCall(call, keys) for call in calls]
    return [ShownCall(call, signing.SigningKeys((), ())) for call in calls]


@if_on
@require_POST
@page
def set_answer(request: HttpRequest, name: str) -> HttpResponse:
    """Let the inbox answer so from now on."""
    kind = request.POST.get("answer", "")
    seconds = _number(request.POST.get("seconds", "0"), 0, MOST_SECONDS)
    if kind not in kinds() or seconds is None:
        return _refused(
            request,
            f"“Answer with” must be one of the list, and the seconds a whole"
            f" number from 0 to {MOST_SECONDS}.",
        )
    with reaching_postgres():
        storage.set_answer(name, Answer(kind, seconds))
    return HttpResponseRedirect(f"/inbox/{name}")


@if_on
@require_POST
@page
def set_timer(request: HttpRequest, name: str) -> HttpResponse:
    """Set a timer that calls the inbox."""
    seconds = _number(request.POST.get("seconds", ""), 0, 3600)
    if seconds is None:
        return _refused(
            request, "The seconds must be a whole number from 0 to 3600."
        )
    with reaching_postgres():
        called = url_for(name, storage.answer(name))
    timer = services.new_timer(
        account_of(request), Definition(called), timedelta(seconds=seconds)
    )
    services.create_timer(timer)
    query = urlencode({"timer": str(timer.id)})
    return HttpResponseRedirect(f"/inbox/{name}?{query}")


def _refused(request: HttpRequest, sentence: str) -> HttpResponse:
    return failure(request, 422, "That can't be done", sentence)


@if_on
@require_GET
@for_programs
def calls(request: HttpRequest, name: str) -> HttpResponse:
    """Return calls to a program, which may wait for the next one."""
    after = _number(request.GET.get("after", "0"), 0, 2**63 - 1)
    wait = _number(request.GET.get("wait", "0"), 0, _MOST_WAIT)
    wrong = [
        (parameter, "must be a whole number, 0 or more" + most)
        for parameter, value, most in (
            ("after", after, ""), ("wait", wait, f", {_MOST_WAIT} at most")
        )
        if value is None
    ]
    if after is None or wait is None:
        return not_valid(wrong)
    with reaching_postgres():
        found = storage.after(name, after, _MOST_CALLS)
        if not found and wait and waits.leave(request.META):
            arrivals().wait(name, after, wait)
            found = storage.after(name, after, _MOST_CALLS)
    return JsonResponse({
        "calls": [call.as_json() for call in _shown(request, found)],
        "next": found[-1].id if found else after,
    })


def _number(text: str, least: int, most: int) -> int | None:
    """Return a whole number from a query or a form; None if it is wrong."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return int(text) if least <= int(text) <= most else None

"""The page of one timer: its life, its attempts, its request, what to do."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.views.decorators.http import require_GET, require_POST

from apps.core.callers import account_of
from apps.dashboard.pages import page, show
from apps.dashboard.viewer import viewer
from apps.timers import changes, services
from apps.timers.explain.answer import explain
from apps.timers.models import GAVE_UP
from apps.timers.storage import explaining, looking
from apps.timers.storage.aside import ROW_ERRORS, RowUnwritable
from apps.timers.storage.records import Definition, StoredTimer

_COVER = "••••"


class Step(NamedTuple):
    """A step of a timer's life, and how long after the one before."""

    name: str
    at: datetime
    after: timedelta | None


class Refused(Exception):
    """An action can't be done; the text says why."""


@require_GET
@page
def timer(request: HttpRequest, timer_id: UUID) -> HttpResponse:
    """Show the page."""
    return _show(request, timer_id)


@require_GET
@page
def changed(request: HttpRequest, timer_id: UUID) -> HttpResponse:
    """Have an open page loaded anew once its timer has changed."""
    found = services.get_timer(account_of(request), timer_id)
    seen = request.GET.get("seen")
    if found is None or _tag(found) == seen:
        return HttpResponse(status=204)
    return HttpResponse(headers={"HX-Refresh": "true"})


@require_POST
@page
def act(request: HttpRequest, timer_id: UUID, action: str) -> HttpResponse:
    """Do something with the timer; if that can't be, the page says why."""
    if action not in _ACTIONS:
        raise Http404
    try:
        exists = _ACTIONS[action](request, timer_id)
    except (Refused, RowUnwritable) as error:
        return _show(request, timer_id, refusal=str(error), action=action)
    if not exists:
        raise Http404(f"There is no timer {timer_id}.")
    return HttpResponseRedirect(f"/dashboard/timer/{timer_id}")


def _cancel(request: HttpRequest, timer_id: UUID) -> bool:
    try:
        return services.cancel_timer(account_of(request), timer_id)
    except services.AlreadyFired:
        raise Refused("It is being called right now, or has ended.") from None


def _fire(request: HttpRequest, timer_id: UUID) -> bool:
    return _change(request, timer_id, "fired", timedelta(0))


def _move(request: HttpRequest, timer_id: UUID) -> bool:
    text = request.POST.get("seconds", "")
    most = settings.MAX_TIMER_DAYS * 86_400
    is_number = text.isascii() and text.isdigit() and len(text) < 12
    if not is_number or int(text) > most:
        raise Refused(f"The seconds must be a whole number, {most:,} at most.")
    delay = timedelta(seconds=int(text))
    return _change(request, timer_id, "moved", delay)


def _change(
    request: HttpRequest, timer_id: UUID, what: str, delay: timedelta
) -> bool:
    try:
        changed = changes.change_timer(
            account_of(request), timer_id, what, delay=delay
        )
    except changes.NotChangeable as error:
        raise Refused(f"The timer {error}.") from None
    return changed is not None


def _replay(request: HttpRequest, timer_id: UUID) -> bool:
    try:
        account = account_of(request)
        return services.replay_timer(account, timer_id) is not None
    except services.NotGivenUp:
        raise Refused("It did not give up, or waits already.") from None
    except services.TriedTooOften:
        raise Refused("It was tried too often: set a new one.") from None
    except services.Erased:
        raise Refused("What it called was erased: set a new one.") from None


_ACTIONS: dict[str, Callable[[HttpRequest, UUID], bool]] = {
    "cancel": _cancel, "fire": _fire, "move": _move, "replay": _replay,
}


def _show(
    request: HttpRequest,
    timer_id: UUID,
    refusal: str | None = None,
    action: str | None = None,
) -> HttpResponse:
    account = account_of(request)
    with services.reaching_postgres():
        history = explaining.history(account, timer_id)
        attempts = looking.attempts(account, timer_id)
        definition = _definition(account, timer_id)
    if history is None:
        raise Http404(f"There is no timer {timer_id}.")
    found = history.timer
    is_open = (
        viewer(request).writes and request.GET.get("show") == "request"
    )
    return show(
        request,
        "dashboard/timer.html",
        409 if refusal else 200,
        timer=found,
        tag=_tag(found),
        explained=explain(history, has_rabbitmq=bool(settings.RABBITMQ_URL)),
        steps=list(_steps(found, history.details.queued_at)),
        attempts=attempts[-explaining.MOST:],
        definition=definition,
        sent=definition and _sent(definition, is_open),
        is_open=is_open,
        can_replay=found.outcome in GAVE_UP and found.erased_at is None,
        is_over=found.outcome is not None and found.outcome not in GAVE_UP,
        refusal=refusal,
        action=action,
    )


def _tag(timer: StoredTimer) -> str:
    """Return a text that differs once the timer has changed."""
    return f"{timer.version}-{timer.attempts}-{timer.status}"


def _definition(account: int, timer_id: UUID) -> Definition | None:
    """Return what a timer calls; None if its row can't be read."""
    try:
        found = looking.definition(account, timer_id)
    except ROW_ERRORS:
        return None
    return found and found[2]


def _steps(timer: StoredTimer, queued_at: datetime | None) -> Iterator[Step]:
    """Yield the steps whose times are known, in their order."""
    known = [
        ("set", timer.created_at),
        ("queued", queued_at),
        ("due", timer.due_at),
        ("claimed", timer.fired_at),
        ("sent", timer.sent_at),
    ]
    before: datetime | None = None
    for name, at in sorted(
        ((name, at) for name, at in known if at), key=lambda each: each[1]
    ):
        yield Step(name, at, None if before is None else at - before)
        before = at


def _sent(definition: Definition, is_open: bool) -> Mapping[str, Any]:
    """Return the request as it will be sent, its secrets covered."""
    request = definition.request
    headers = {
        name: value if is_open else _COVER
        for name, value in (request.headers or {}).items()
    }
    body = None
    if request.body is not None:
        text = request.body.decode(errors="replace")
        body = text if is_open else _COVER
    parts = ["curl", "-X", request.method, definition.url]
    for name, value in headers.items():
        parts += ["-H", f"{name}: {value}"]
    if body is not None:
        parts += ["--data-binary", body]
    return {
        "headers": headers, "body": body, "size": len(request.body or b""),
        "curl": shlex.join(parts),
    }

"""The page of one timer: its life, its attempts, its request, what to do."""

import shlex
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
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
from apps.core.reaching import reaching_postgres
from apps.dashboard.life import life, pictures
from apps.dashboard.many import Wrong, seconds
from apps.dashboard.pages import page, show
from apps.dashboard.viewer import viewer
from apps.timers import changes, services
from apps.timers.explain.answer import explain
from apps.timers.models import GAVE_UP
from apps.timers.payload import default_body
from apps.timers.storage import explaining, looking
from apps.timers.storage.aside import ROW_ERRORS, RowUnwritable
from apps.timers.storage.records import Definition, StoredTimer
from apps.webhooks.request import WITH_BODY, merged

_COVER = "••••"


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
    try:
        delay = seconds(request.POST.get("seconds", ""))
    except Wrong as error:
        raise Refused(str(error)) from None
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
    with reaching_postgres():
        history = explaining.history(account, timer_id)
        attempts = looking.attempts(account, timer_id)
        definition = _definition(account, timer_id)
    if history is None:
        raise Http404(f"There is no timer {timer_id}.")
    found, lived = history.timer, life(history)
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
        words=lived.words(),
        pictures=pictures(lived),
        attempts=attempts[-explaining.MOST:],
        definition=definition,
        sent=definition and _sent(found, definition, is_open),
        is_open=is_open,
        can_replay=found.outcome in GAVE_UP and found.erased_at is None,
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


def _sent(
    timer: StoredTimer, definition: Definition, is_open: bool
) -> Mapping[str, Any]:
    """Return the request as it will be sent, its secrets covered."""
    request = definition.request
    given, body = dict(request.headers or {}), request.body
    is_over = timer.outcome is not None and timer.outcome not in GAVE_UP
    is_gone = is_over and not given and body is None
    is_default = (
        body is None and request.method in WITH_BODY
        and not is_gone and timer.erased_at is None
    )
    text = None if body is None else body.decode(errors="replace")
    if is_default:
        text = default_body(timer).decode()
    has_secrets = bool(given) or body is not None
    if not is_open:
        given = dict.fromkeys(given, _COVER)
        text = text if body is None else _COVER
    type_of_body = {} if text is None else {
        "content-type": "application/json"
    }
    headers = merged(type_of_body, given)
    parts = ["curl", "-X", request.method, definition.url]
    for name, value in headers.items():
        parts += ["-H", f"{name}: {value}"]
    if text is not None:
        parts += ["--data-binary", text]
    return {
        "headers": headers, "body": text, "is_default": is_default,
        "size": len(text or "") if body is None else len(body),
        "has_secrets": has_secrets, "is_gone": is_gone,
        "curl": shlex.join(parts),
    }

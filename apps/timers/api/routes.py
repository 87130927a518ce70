"""The timer endpoints: parse, call a service, answer."""

from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Router, Status

from apps.accounts.authors import author_of
from apps.core.callers import account_of
from apps.timers import changes, services
from apps.timers.api.changing import PatchIn
from apps.timers.api.fields import TimerId
from apps.timers.api.gave_up import (
    AttemptsOut,
    Replayed,
    ReplayIn,
    attempt_out,
)
from apps.timers.api.headers import (
    IDEMPOTENCY_KEY,
    IfMatch,
    etag,
    request_key,
    versions,
)
from apps.timers.api.limits import show_limits
from apps.timers.api.schemas import (
    ErrorOut,
    TimerCreated,
    TimerIn,
    TimerOut,
    timer_out,
)
from apps.timers.storage.records import (
    Definition,
    NamedTimer,
    Repeated,
    StoredTimer,
)

#: POST /timer has a router of its own, which comes first: Django tries one
#: path after the other, and this is the one that is asked for most.
creating = Router(tags=["timers"])
router = Router(tags=["timers"])
Found = TypeVar("Found")


@creating.post(
    "/timer",
    response={
        frozenset({200, 201}): TimerCreated,
        frozenset({400, 403, 408, 409, 413, 422, 429, 503}): ErrorOut,
    },
    summary="Set a timer",
    openapi_extra=IDEMPOTENCY_KEY,
)
def create_timer(
    request: HttpRequest, body: TimerIn, response: HttpResponse
) -> HttpResponse:
    """Set a timer: when it expires, its URL is called, once.

    201 means that it is stored durably. After a 503 it may have been stored
    as well: repeat the request with the same Idempotency-Key to find out.
    """
    account = account_of(request)
    services.check_body(account, len(request.body))
    when = body.when()
    timer = services.new_timer(
        account, body.definition, when.delay, when.due_at
    )
    status, timer_id, time_left = 201, timer.id, when.time_left
    asked = request_key(request, time_left)
    if body.key or body.labels or asked:
        answer = changes.create_named(NamedTimer(timer, body.key, asked))
        if isinstance(answer, Repeated):
            status, timer_id = 200, answer.timer_id
            time_left = answer.time_left
    else:
        services.create_timer(timer)
    # Written here, since Ninja takes a tenth of the request to do it.
    created = f'{{"id": "{timer_id}", "time_left": {time_left}}}'
    response.content = created.encode()
    response.status_code = status
    response["Location"] = f"/timer/{timer_id}"
    show_limits(account, response)
    return response


@router.get(
    "/timer/{timer_uuid}",
    response={200: TimerOut, frozenset({404, 422, 503}): ErrorOut},
    summary="Look at a timer",
)
def get_timer(
    request: HttpRequest, timer_uuid: TimerId, response: HttpResponse
) -> TimerOut:
    """Return the seconds left, 0 if expired, and what came of the call."""
    timer = _existing(
        services.get_timer(account_of(request), timer_uuid), timer_uuid
    )
    return _shown(timer, response)


@router.patch(
    "/timer/{timer_uuid}",
    response={
        200: TimerOut,
        frozenset({400, 403, 404, 408, 409, 412, 413, 422, 503}): ErrorOut,
    },
    summary="Change a timer",
)
def change_timer(
    request: HttpRequest,
    timer_uuid: TimerId,
    body: PatchIn,
    response: HttpResponse,
    if_match: IfMatch = None,
) -> TimerOut:
    """Change a timer that waits: its time, or what is called.

    What is left out stays; null takes away. 409 once it is being called or
    has ended.
    """
    services.check_body(account_of(request), len(request.body))
    when = body.when() if body.has_time else None
    merge = None
    if body.redefines:
        def merge(old: Definition) -> Definition:
            return body.merged_with(old, request.body)
    timer = changes.change_timer(
        account_of(request),
        timer_uuid,
        "changed" if body.redefines else "moved",
        delay=when and when.delay,
        due_at=when and when.due_at,
        merge=merge,
        versions=versions(if_match),
    )
    return _shown(_existing(timer, timer_uuid), response)


@router.post(
    "/timer/{timer_uuid}/fire",
    response={
        202: TimerOut,
        frozenset({403, 404, 409, 412, 422, 503}): ErrorOut,
    },
    summary="Fire a timer now",
)
def fire_timer(
    request: HttpRequest,
    timer_uuid: TimerId,
    response: HttpResponse,
    if_match: IfMatch = None,
) -> Status[TimerOut]:
    """Move a timer that waits to now. 409 once it is called or has ended."""
    timer = changes.change_timer(
        account_of(request), timer_uuid, "fired",
        delay=timedelta(0), versions=versions(if_match),
    )
    return Status(202, _shown(_existing(timer, timer_uuid), response))


@router.delete(
    "/timer/{timer_uuid}",
    response={
        204: None,
        frozenset({403, 404, 409, 412, 422, 503}): ErrorOut,
    },
    summary="Cancel a timer",
)
def cancel_timer(
    request: HttpRequest, timer_uuid: TimerId, if_match: IfMatch = None
) -> Status[None]:
    """Cancel a timer that has not fired: it will not be called."""
    account = account_of(request)
    if not services.cancel_timer(account, timer_uuid, versions(if_match)):
        raise Http404(f"There is no timer {timer_uuid}.")
    return Status(204, None)


@router.get(
    "/timer/{timer_uuid}/attempts",
    response={200: AttemptsOut, frozenset({404, 422, 503}): ErrorOut},
    summary="Look at a timer's attempts",
)
def get_attempts(request: HttpRequest, timer_uuid: TimerId) -> AttemptsOut:
    """Return each attempt to call that has ended, also those unsent."""
    attempts = _existing(
        services.get_attempts(account_of(request), timer_uuid), timer_uuid
    )
    return AttemptsOut(attempts=[attempt_out(each) for each in attempts])


@router.post(
    "/timer/{timer_uuid}/replay",
    response={
        202: TimerOut,
        frozenset({403, 404, 409, 422, 429, 503}): ErrorOut,
    },
    summary="Replay a timer that gave up",
)
def replay_timer(
    request: HttpRequest, timer_uuid: TimerId, response: HttpResponse
) -> Status[TimerOut]:
    """Replay a timer that gave up: it fires again now, with the same id.

    A receiver that deduplicates, and has received it before, ignores it.
    """
    timer = _existing(
        services.replay_timer(account_of(request), timer_uuid), timer_uuid
    )
    return Status(202, _shown(timer, response))


@router.post(
    "/timers/replay",
    response={
        202: Replayed,
        frozenset({400, 403, 408, 413, 422, 429, 503}): ErrorOut,
    },
    summary="Replay what gave up",
)
def replay_timers(request: HttpRequest, body: ReplayIn) -> Status[Replayed]:
    """Replay many timers that gave up: by id, or by filter."""
    by = author_of(request)
    if body.ids is not None:
        others = services.replay_timers(by, body.ids, "id")
        count = len(set(body.ids)) - len(others)
        return Status(202, Replayed(replayed=count, not_replayed=others))
    count, after = services.replay_failed(
        by, body.timer_filter(), body.limit, body.given()
    )
    return Status(202, Replayed(replayed=count, next=after))


def _existing(found: Found | None, timer_uuid: UUID) -> Found:
    """Return what was found of a timer; 404 if there is no such timer."""
    if found is None:
        raise Http404(f"There is no timer {timer_uuid}.")
    return found


def _shown(timer: StoredTimer, response: HttpResponse) -> TimerOut:
    """Return one timer, with its ETag."""
    response["ETag"] = etag(timer.version)
    return timer_out(timer)

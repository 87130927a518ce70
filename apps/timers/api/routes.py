"""The timer endpoints: parse, call a service, answer."""

from typing import TypeVar, cast
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Query, Router, Status

from apps.timers import services
from apps.timers.api.gave_up import (
    AttemptsOut,
    FailedQuery,
    Replayed,
    ReplayIn,
    TimersOut,
    attempt_out,
)
from apps.timers.api.schemas import (
    ErrorOut,
    RetryIn,
    TimerCreated,
    TimerIn,
    TimerOut,
    TimerStatus,
)
from apps.timers.storage.records import StoredTimer

router = Router(tags=["timers"])
Found = TypeVar("Found")


@router.post(
    "/timer",
    response={
        201: TimerCreated,
        frozenset({400, 403, 408, 413, 422, 503}): ErrorOut,
    },
    summary="Set a timer",
)
def create_timer(
    request: HttpRequest, body: TimerIn, response: HttpResponse
) -> Status[TimerCreated]:
    """Set a timer: when it expires, its URL is called, once.

    201 means that it is stored durably. After a 503 it may have been stored
    as well.
    """
    timer_id = services.create_timer(
        body.url,
        body.delay,
        at_least_once=body.delivery == "at_least_once",
        request=body.request,
        retry=body.retry_policy,
        max_lateness=body.lateness,
    )
    response["Location"] = f"/timer/{timer_id}"
    created = TimerCreated(id=timer_id, time_left=body.total_seconds)
    return Status(201, created)


@router.get(
    "/timer/{timer_uuid}",
    response={200: TimerOut, frozenset({404, 422, 503}): ErrorOut},
    summary="Look at a timer",
)
def get_timer(request: HttpRequest, timer_uuid: UUID) -> TimerOut:
    """Return the seconds left, 0 if expired, and what came of the call."""
    return _timer_out(_existing(services.get_timer(timer_uuid), timer_uuid))


@router.delete(
    "/timer/{timer_uuid}",
    response={204: None, frozenset({403, 404, 409, 422, 503}): ErrorOut},
    summary="Cancel a timer",
)
def cancel_timer(request: HttpRequest, timer_uuid: UUID) -> Status[None]:
    """Cancel a timer that has not fired: it will not be called."""
    if not services.cancel_timer(timer_uuid):
        raise Http404(f"There is no timer {timer_uuid}.")
    return Status(204, None)


@router.get(
    "/timer/{timer_uuid}/attempts",
    response={200: AttemptsOut, frozenset({404, 422, 503}): ErrorOut},
    summary="Look at a timer's attempts",
)
def get_attempts(request: HttpRequest, timer_uuid: UUID) -> AttemptsOut:
    """Return each attempt to call that has ended, also those unsent."""
    attempts = _existing(services.get_attempts(timer_uuid), timer_uuid)
    return AttemptsOut(attempts=[attempt_out(each) for each in attempts])


@router.get(
    "/timers",
    response={200: TimersOut, frozenset({414, 422, 503}): ErrorOut},
    summary="List what gave up",
)
def list_failed(
    request: HttpRequest, which: Query[FailedQuery]
) -> TimersOut:
    """Return timers that gave up, by `fire_at`, a page at a time."""
    timers, after = services.list_failed(which.gave_up_filter(), which.limit)
    return TimersOut(timers=[_timer_out(each) for each in timers], next=after)


@router.post(
    "/timer/{timer_uuid}/replay",
    response={
        202: TimerOut,
        frozenset({403, 404, 409, 422, 503}): ErrorOut,
    },
    summary="Replay a timer that gave up",
)
def replay_timer(
    request: HttpRequest, timer_uuid: UUID
) -> Status[TimerOut]:
    """Replay a timer that gave up: it fires again now, with the same id.

    A receiver that deduplicates, and has received it before, ignores it.
    """
    timer = _existing(services.replay_timer(timer_uuid), timer_uuid)
    return Status(202, _timer_out(timer))


@router.post(
    "/timers/replay",
    response={
        202: Replayed,
        frozenset({400, 403, 408, 413, 422, 503}): ErrorOut,
    },
    summary="Replay what gave up",
)
def replay_timers(request: HttpRequest, body: ReplayIn) -> Status[Replayed]:
    """Replay many timers that gave up: by id, or by filter."""
    if body.ids is not None:
        others = services.replay_timers(body.ids)
        count = len(set(body.ids)) - len(others)
        return Status(202, Replayed(replayed=count, not_replayed=others))
    count, after = services.replay_failed(body.gave_up_filter(), body.limit)
    return Status(202, Replayed(replayed=count, next=after))


def _existing(found: Found | None, timer_uuid: UUID) -> Found:
    """Return what was found of a timer; 404 if there is no such timer."""
    if found is None:
        raise Http404(f"There is no timer {timer_uuid}.")
    return found


def _timer_out(timer: StoredTimer) -> TimerOut:
    late_ms = None
    if timer.sent_at is not None:
        late = (timer.sent_at - timer.due_at).total_seconds()
        late_ms = round(late * 1000, 3)
    waits = timer.outcome is None and timer.fired_at is None
    return TimerOut(
        id=timer.id,
        time_left=timer.time_left,
        status=_status(timer),
        url=timer.url,
        method=timer.method,
        delivery="at_least_once" if timer.at_least_once else "once",
        retry=RetryIn.of(timer.retry) if timer.retry else None,
        max_lateness=(
            None
            if timer.max_lateness is None
            else int(timer.max_lateness.total_seconds())
        ),
        fire_at=timer.due_at,
        next_at=timer.next_at if waits else None,
        created_at=timer.created_at,
        fired_at=timer.fired_at,
        attempts=timer.attempts,
        late_ms=late_ms,
        status_code=timer.status_code,
        error=timer.error,
    )


def _status(timer: StoredTimer) -> TimerStatus:
    if timer.outcome is not None:
        return cast(TimerStatus, timer.outcome)
    if timer.fired_at is not None:
        return "firing"
    if timer.deferred:
        return "deferred"
    if timer.attempts or timer.sent_at is not None:
        return "retrying"
    return "scheduled"

"""The endpoints of a timer that is named by its caller's own key."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import register_converter
from ninja import Router, Status

from apps.core.callers import account_of
from apps.timers import changes, services
from apps.timers.api import routes
from apps.timers.api.changing import PatchIn, PutIn
from apps.timers.api.fields import PathKey
from apps.timers.api.headers import IfMatch, etag
from apps.timers.api.limits import show_limits
from apps.timers.api.schemas import ErrorOut, TimerOut, timer_out
from apps.timers.storage.by_key import Put
from apps.timers.storage.records import NamedTimer


class AnyText:
    """The rest of a path, whatever it is: the endpoint checks a key."""

    regex = r"(?s:.*)"

    def to_python(self, value: str) -> str:
        """Return the text."""
        return value

    def to_url(self, value: str) -> str:
        """Return the text."""
        return value


register_converter(AnyText, "any")
router = Router(tags=["timers by key"])
_PATH = "/timer/by-key/{any:key}"


@router.put(
    _PATH,
    response={
        frozenset({200, 201}): TimerOut,
        frozenset({400, 403, 408, 413, 422, 429, 503}): ErrorOut,
    },
    summary="Set or change the timer with a key",
)
def put_timer_by_key(
    request: HttpRequest, key: PathKey, body: PutIn, response: HttpResponse
) -> Status[TimerOut]:
    """Set a timer under a key, or change the one that has it and waits.

    201 if a timer was set, also if the one that had the key is just being
    called. 200 if there was one; `if_exists` says what becomes of it.
    """
    account = account_of(request)
    services.check_body(account, len(request.body))
    when = body.when()
    timer = services.new_timer(
        account, body.definition, when.delay, when.due_at
    )
    named = NamedTimer(
        timer, key, takes_key=True, latest_at=body.latest_at
    )
    stored = changes.put_timer(Put(named, body.if_exists))
    response["ETag"] = etag(stored.timer.version)
    response["Location"] = f"/timer/{stored.timer.id}"
    show_limits(account, response)
    return Status(201 if stored.is_new else 200, timer_out(stored.timer))


@router.get(
    _PATH,
    response={200: TimerOut, frozenset({404, 422, 503}): ErrorOut},
    summary="Look at the timer with a key",
)
def get_timer_by_key(
    request: HttpRequest, key: PathKey, response: HttpResponse
) -> TimerOut:
    """Return the timer that has a key and has not ended."""
    return routes.get_timer(request, _holder(request, key), response)


@router.patch(
    _PATH,
    response={
        200: TimerOut,
        frozenset({400, 403, 404, 408, 409, 412, 413, 422, 503}): ErrorOut,
    },
    summary="Change the timer with a key",
)
def change_timer_by_key(
    request: HttpRequest,
    key: PathKey,
    body: PatchIn,
    response: HttpResponse,
    if_match: IfMatch = None,
) -> TimerOut:
    """Change the timer that has a key and waits."""
    return routes.change_timer(
        request, _holder(request, key), body, response, if_match
    )


@router.delete(
    _PATH,
    response={
        204: None,
        frozenset({403, 404, 409, 412, 422, 503}): ErrorOut,
    },
    summary="Cancel the timer with a key",
)
def cancel_timer_by_key(
    request: HttpRequest, key: PathKey, if_match: IfMatch = None
) -> Status[None]:
    """Cancel the timer that has a key, and has not fired."""
    return routes.cancel_timer(request, _holder(request, key), if_match)


def _holder(request: HttpRequest, key: str) -> UUID:
    timer_id = changes.timer_with(account_of(request), key)
    if timer_id is None:
        raise Http404(f"No timer that has not ended has the key {key!r}.")
    return timer_id

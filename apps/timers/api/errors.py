"""What is answered when an operation on timers can't be done."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI

from apps.core.answers import error_response, not_valid
from apps.core.reaching import ListTooSlow
from apps.timers.api.limits import limit_reached
from apps.timers.changes import (
    KeyInUse,
    NotChangeable,
    RequestKeyReused,
)
from apps.timers.services import (
    AlreadyFired,
    BodyTooLong,
    Erased,
    NotGivenUp,
    TriedTooOften,
    UnknownPlace,
    WrongVersion,
)
from apps.timers.storage import replaying
from apps.timers.storage.aside import RowUnwritable
from apps.timers.storage.limiting import LimitReached


def add_to(api: NinjaAPI) -> None:
    """Have the API answer what the timers' services raise."""
    for kind, answer in _ANSWERS.items():
        api.add_exception_handler(kind, _handler(answer))


def _handler(
    answer: Callable[[Any], HttpResponse]
) -> Callable[[HttpRequest, Any], HttpResponse]:
    return lambda request, error: answer(error)


def _list_too_slow(error: ListTooSlow) -> HttpResponse:
    return error_response(
        503,
        "Postgres did not make the list in time. Narrow it by status, host,"
        " label, key, from or to, lower limit, or try again.",
        Retry_After="1",
    )


def _already_fired(error: AlreadyFired) -> HttpResponse:
    return error_response(409, "The timer has fired; it can't be cancelled.")


def _not_changeable(error: NotChangeable) -> HttpResponse:
    return error_response(409, f"The timer {error}; it can't be changed.")


def _wrong_version(error: WrongVersion) -> HttpResponse:
    return error_response(
        412,
        "The timer was changed since: GET it, and use its new ETag as"
        " If-Match.",
    )


def _key_in_use(error: KeyInUse) -> HttpResponse:
    (timer_id,) = error.args
    return error_response(
        409,
        f"The key belongs to timer {timer_id}, which has not ended. Change"
        " that one, PUT by the key, or take another key.",
        more={"id": str(timer_id)},
    )


def _request_key_reused(error: RequestKeyReused) -> HttpResponse:
    return not_valid([
        ("Idempotency-Key", "was used with another body in the last 24 hours;"
         " take a new one for a new request")
    ])


def _row_unwritable(error: RowUnwritable) -> HttpResponse:
    return error_response(
        409,
        f"The timer's row can't be changed: {error}. Mend the row in"
        " Postgres.",
    )


def _not_given_up(error: NotGivenUp) -> HttpResponse:
    return error_response(
        409,
        "The timer did not give up; only one that is failed, unknown or"
        " missed is replayed.",
    )


def _tried_too_often(error: TriedTooOften) -> HttpResponse:
    return error_response(
        409,
        f"The timer was tried {replaying.MOST_ATTEMPTS:,} times or more, and"
        " is not replayed any more; set a new one.",
    )


def _erased(error: Erased) -> HttpResponse:
    return error_response(
        409,
        "What the timer called was erased, so it can't be replayed; set a new"
        " one.",
    )


def _unknown_place(error: UnknownPlace) -> HttpResponse:
    return not_valid([
        ("after", "is no timer; it must be an answer's `next`")
    ])


def _body_too_long(error: BodyTooLong) -> HttpResponse:
    (most,) = error.args
    return error_response(
        413,
        f"The account's limit for such a body is {most:,} bytes. Send a"
        " shorter one.",
    )


_ANSWERS: dict[type[Exception], Callable[[Any], HttpResponse]] = {
    ListTooSlow: _list_too_slow,
    AlreadyFired: _already_fired,
    NotChangeable: _not_changeable,
    WrongVersion: _wrong_version,
    KeyInUse: _key_in_use,
    RequestKeyReused: _request_key_reused,
    RowUnwritable: _row_unwritable,
    NotGivenUp: _not_given_up,
    TriedTooOften: _tried_too_often,
    Erased: _erased,
    UnknownPlace: _unknown_place,
    LimitReached: limit_reached,
    BodyTooLong: _body_too_long,
}

"""How an inbox answers its calls."""

import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from apps.core import waits
from apps.core.answers import error_response
from apps.inbox.storage import Answer

#: What an inbox can do, and what people read.
KINDS = {
    "200": "200",
    "500": "500",
    "410": "410, which ends retries",
    "429": "429, with Retry-After",
    "late": "200, after some seconds",
    "never": "nothing, ever",
    "endless": "200, and a body without an end",
    "reset": "a reset of the connection",
}
#: The kinds that need a number of seconds, and the most it may be.
TIMED = ("429", "late")
MOST_SECONDS = 60
#: How much longer than a call may take the inbox goes on, in seconds.
_SPARE = 5.0
#: An endless body's pieces, and the seconds between two of them.
_PIECE = b"and so on\n" * 100
_PAUSE = 0.02


def kinds() -> dict[str, str]:
    """Return what can be chosen. A reset needs INBOX_RESET_PORT."""
    can_reset = bool(settings.INBOX_RESET_PORT)
    return {
        kind: text for kind, text in KINDS.items()
        if kind != "reset" or can_reset
    }


def respond(request: HttpRequest, given: Answer) -> HttpResponseBase:
    """Answer a call; this takes as long as the answer says."""
    if given.answer in _SLOW:
        if not waits.leave(request.META):
            return error_response(
                503,
                f"{waits.MOST} calls of inboxes wait already for their answer"
                " in this web process.",
                Retry_After="1",
            )
        return _SLOW[given.answer](given.seconds)
    if given.answer == "421":
        return error_response(
            421,
            "This port can't reset connections; the inbox's page shows the"
            " URL that does.",
        )
    response = _text(int(given.answer))
    if given.answer == "429":
        response["Retry-After"] = str(given.seconds)
    return response


def _text(status: int) -> HttpResponse:
    return HttpResponse(
        f"The inbox answers {status}.\n", "text/plain", status
    )


def _late(seconds: int) -> HttpResponseBase:
    time.sleep(seconds)
    return _text(200)


def _longest() -> float:
    """Return when nobody waits for an answer any more, in seconds."""
    return float(settings.WEBHOOK_TIMEOUT) + _SPARE


def _never(seconds: int) -> HttpResponseBase:
    time.sleep(_longest())
    return _text(200)


def _endless(seconds: int) -> HttpResponseBase:
    return StreamingHttpResponse(_pieces(), "text/plain")


def _pieces() -> Iterator[bytes]:
    end = time.monotonic() + _longest()
    while time.monotonic() < end:
        yield _PIECE
        time.sleep(_PAUSE)


_SLOW: dict[str, Callable[[int], HttpResponseBase]] = {
    "late": _late,
    "never": _never,
    "endless": _endless,
}

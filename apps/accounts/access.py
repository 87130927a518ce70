"""What each request needs, and the middleware that sees to it."""

import re
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from apps.accounts.keys import START
from apps.accounts.scopes import SCOPES
from apps.accounts.users import user_calling
from apps.accounts.verifying import caller_with
from apps.core.answers import error_response
from apps.core.callers import (
    DEFAULT_ACCOUNT,
    SAFE_METHODS,
    Caller,
    set_caller,
)
from apps.core.reaching import PostgresAway

_OPEN = frozenset(
    {"/livez", "/readyz", "/api/docs", "/api/openapi.json", "/admin"}
)
#: The admin has its own users.
_OPEN_BELOW = ("/static/", "/admin/")
_ADMIN = frozenset({"/account", "/timers/erase"})
_KEYS_PAGE = "/dashboard/keys/"
_INBOX = re.compile(r"/inbox/[^/]+")
#: The caller of a request without a key, where keys are not required.
_ANYBODY = Caller(DEFAULT_ACCOUNT, None, frozenset(SCOPES))


class ApiKeys:
    """Finds out to which account each request belongs, and refuses some.

    It looks at paths, not at endpoints. So a new one can't be left open by
    mistake.
    """

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponse]
    ) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request, or refuse it unread."""
        if _is_webhook(request):
            return self.get_response(request)
        scope = needed_scope(request.method or "", request.path_info)
        if scope is not None and (refusal := _refusal(request, scope)):
            return refusal
        return self.get_response(request)


def _is_webhook(request: HttpRequest) -> bool:
    """Tell whether an inbox is called as a receiver; a webhook has no key."""
    return bool(
        "HTTP_WEBHOOK_ID" in request.META
        and _INBOX.fullmatch(request.path_info)
    )


def needed_scope(method: str, path: str) -> str | None:
    """Return the scope that a request needs, None if it needs no key."""
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return None
    if path in _ADMIN or path.startswith("/account/"):
        return "admin"
    if path == "/metrics":
        return "metrics"
    if method in SAFE_METHODS:
        return "read"
    return "admin" if path.startswith(_KEYS_PAGE) else "write"


def _refusal(request: HttpRequest, scope: str) -> HttpResponse | None:
    """Return why a request is refused; else note who sends it."""
    key = _sent_key(request)
    try:
        caller = _caller(request, key)
    except PostgresAway:
        return _unavailable()
    if caller is None:
        return _unknown(request, key)
    if scope not in caller.scopes:
        return _forbidden(caller, scope)
    set_caller(request, caller)
    return None


def _caller(request: HttpRequest, key: str) -> Caller | None:
    """Return who sends a request, None if that is not known."""
    if key.startswith(START):
        return caller_with(key)
    if "HTTP_COOKIE" in request.META and (user := user_calling(request)):
        return user
    if not settings.REQUIRE_API_KEY:
        return _ANYBODY
    return caller_with(key) if key else None


def _unknown(request: HttpRequest, key: str) -> HttpResponse:
    if not key:
        return _unauthorized(
            "This needs an API key, in a header such as"
            f" `Authorization: Bearer {START}…`.",
            _challenge(request, "Bearer"),
        )
    return _unauthorized(
        "The API key is not valid: it is mistyped, was revoked, or has"
        " expired.",
        _challenge(request, 'Bearer error="invalid_token"'),
    )


def _forbidden(caller: Caller, scope: str) -> HttpResponse:
    if caller.user is not None:
        return error_response(
            403, f"The user {caller.user} may only look: this needs `{scope}`,"
            " which superusers have.",
        )
    return error_response(
        403,
        f"The API key has not the scope `{scope}`, which this needs."
        " Take a key that has it.",
        WWW_Authenticate=(
            f'Bearer error="insufficient_scope", scope="{scope}"'
        ),
    )


def _sent_key(request: HttpRequest) -> str:
    """Return the key that a request has, empty if it has none."""
    kind, _, value = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if kind.lower() == "bearer":
        return str(value.strip())
    if kind.lower() == "basic":
        with suppress(ValueError):
            return b64decode(value, validate=True).decode().partition(":")[2]
    return ""


def _challenge(request: HttpRequest, bearer: str) -> str:
    """Return what asks for a key. A browser has its user type it in.

    To a browser the key is the password of RFC 7617; the name is ignored.
    """
    if "text/html" in request.META.get("HTTP_ACCEPT", ""):
        return 'Basic realm="an API key, as the password", charset="UTF-8"'
    return bearer


def _unauthorized(detail: str, challenge: str) -> HttpResponse:
    return error_response(401, detail, WWW_Authenticate=challenge)


def _unavailable() -> HttpResponse:
    return error_response(
        503,
        "Postgres can't be reached, so that no API key can be checked; try"
        " again.",
        Retry_After="1",
    )

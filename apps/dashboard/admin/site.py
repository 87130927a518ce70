"""The admin site: its log-in, and what its requests need and others don't.

Sessions, users and messages are looked after around its views only. Requests
of the API and of other pages pay nothing for them.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.middleware import CSPMiddleware
from django.contrib import admin
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import decorator_from_middleware

from apps.accounts.models import Account, ApiKey, LogEntry
from apps.core.answers import error_response
from apps.core.database import UNAVAILABLE
from apps.core.reaching import PostgresAway
from apps.dashboard.admin.accounts import AccountAdmin, KeyAdmin, LogAdmin
from apps.dashboard.admin.timers import TimerAdmin
from apps.timers.models import Timer

View = Callable[..., HttpResponseBase]

_AWAY = (OperationalError, *UNAVAILABLE, PostgresAway)

#: From the innermost to the outermost.
_MIDDLEWARE = (
    CSPMiddleware, MessageMiddleware, AuthenticationMiddleware,
    SessionMiddleware,
)
#: To check a password takes half a second of a core, for whoever asks. So
#: each web process checks one at a time, and refuses others meanwhile.
_log_in = threading.Lock()


class Site(admin.AdminSite):
    """Staff may look at everything; superusers may act, too."""

    site_header = site_title = "Timer service"
    index_title = "All accounts"
    enable_nav_sidebar = False

    def admin_view(self, view: View, cacheable: bool = False) -> Any:
        """Return a view for those who are logged in."""
        return _with_middleware(super().admin_view(view, cacheable))

    def login(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        """Answer with the form, or log somebody in."""
        view = _with_middleware(super().login)
        if request.method != "POST":
            return view(request, extra_context)  # type: ignore[return-value]
        if not _log_in.acquire(blocking=False):
            return error_response(
                429, "Somebody else is just logging in; try again.",
                Retry_After="1",
            )
        try:
            return view(request, extra_context)  # type: ignore[return-value]
        finally:
            _log_in.release()


def _with_middleware(view: View) -> View:
    """Put the middleware around a view."""
    for middleware in _MIDDLEWARE:
        around: Any = decorator_from_middleware(middleware)
        view = around(view)

    @wraps(view)
    def shown(request: HttpRequest, *args: Any, **values: Any) -> Any:
        # Django compares the scheme as well, which differs if a proxy has
        # ended TLS. `RequestGuard` has compared the rest. Django's tokens
        # are still needed.
        request.META.pop("HTTP_ORIGIN", None)
        try:
            return view(request, *args, **values)
        except _AWAY:
            return error_response(
                503, "Postgres can't be reached, or took too long; try again.",
                Retry_After="1",
            )

    return shown


site = Site()
site.register(Account, AccountAdmin)
site.register(ApiKey, KeyAdmin)
site.register(LogEntry, LogAdmin)
site.register(Timer, TimerAdmin)

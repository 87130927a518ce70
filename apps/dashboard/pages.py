"""What all pages have in common: the frame, the policy, errors."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.decorators import decorator_from_middleware

from apps.core.reaching import ListTooSlow, PostgresAway
from apps.dashboard.health import health
from apps.dashboard.viewer import viewer
from apps.timers.storage.limiting import LimitReached

View = Callable[..., HttpResponseBase]

#: Sets the policy of CONTENT_SECURITY_POLICY.
_with_policy: Callable[[View], View] = decorator_from_middleware(
    CSPMiddleware
)  # type: ignore[assignment]
_UNAVAILABLE = (
    "Postgres can't be reached. Timers that are set stay set; those that come"
    " due meanwhile are called once it is back."
)


def page(view: View) -> View:
    """Make a view one of a page, whose errors are pages as well."""

    @wraps(view)
    def shown(request: HttpRequest, **values: Any) -> HttpResponseBase:
        try:
            return view(request, **values)
        except Http404 as error:
            return failure(request, 404, "Not found", str(error))
        except PostgresAway:
            response = failure(
                request, 503, "Postgres is away", _UNAVAILABLE
            )
            response["Retry-After"] = "1"
            return response
        except LimitReached as error:
            standing = error.args[0].standing
            response = failure(
                request, 429, "A limit is reached", standing.refusal
            )
            response["Retry-After"] = str(standing.seconds)
            return response
        except ListTooSlow:
            return failure(
                request, 503, "That takes too long",
                "Postgres did not find the timers in time. Load the page"
                " again, or ask for fewer of them.",
            )

    return _with_policy(shown)


def failure(
    request: HttpRequest, status: int, title: str, sentence: str
) -> HttpResponse:
    """Return a page that says why there is no other one."""
    return show(
        request, "dashboard/failure.html", status,
        title=title, sentence=sentence,
    )


def show(
    request: HttpRequest, template: str, status: int = 200, **values: Any
) -> HttpResponse:
    """Return a page, or a part of one, made from a template."""
    text = render_to_string(template, {**_frame(request), **values})
    response = HttpResponse(text, status=status)
    response["Cache-Control"] = "no-store"
    return response


def _frame(request: HttpRequest) -> Mapping[str, Any]:
    """Return what the templates of all pages use."""
    return {
        "health": health(),
        "version": settings.VERSION,
        "has_inbox": bool(settings.INBOX),
        "path": request.path,
        "viewer": viewer(request),
        "now": timezone.now(),
    }

"""URLs: the API, and the pages."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

from apps.core.answers import cut, error_response
from apps.dashboard.admin.site import site
from apps.dashboard.now import now
from config.api import api

urlpatterns = [
    path("", now),  # before Ninja's own view of the root
    path("", api.urls),
    path("", include("apps.dashboard.urls")),
    path("", include("apps.inbox.urls")),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", site.urls),
]


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django could not make sense of."""
    return error_response(400, "The request could not be understood.")


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a path that leads nowhere."""
    return error_response(404, f"There is nothing at {cut(request.path)}.")


def handler500(request: HttpRequest) -> HttpResponse:
    """Answer when the fault is ours."""
    return error_response(500, "An error of the server; see its log.")

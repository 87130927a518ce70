"""What is looked at before any endpoint, and made JSON after it."""

from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse

from config.api import error_response

_PROBES = frozenset({"/livez", "/readyz"})


class RequestGuard:
    """Refuses requests that must not be read, and hosts that are not ours.

    The Host header is checked so that a web page whose name was pointed at
    this server cannot drive it; probes come with addresses of their own.
    """

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponse]
    ) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request, or refuse it unread."""
        response = self._refusal(request) or self.get_response(request)
        if response.status_code == 405:
            allowed = response.headers.get("Allow", "")
            response = error_response(
                405, f"Not allowed here; allowed: {allowed}.", Allow=allowed
            )
        if response.status_code == 204:  # RFC 9110, section 8.6
            del response["Content-Type"]
        elif not response.streaming:  # else Granian would send it chunked
            response["Content-Length"] = str(len(response.content))
        return response

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        if request.path not in _PROBES:
            try:
                request.get_host()
            except DisallowedHost as error:
                return error_response(
                    400, f"{error} (the setting ALLOWED_HOSTS)"
                )
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isascii() or not length.isdigit():
            return error_response(400, "Content-Length must be a number.")
        if len(length) > 18 or int(length) > most:
            return error_response(413, f"At most {most} bytes are read.")
        return None

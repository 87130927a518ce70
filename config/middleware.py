"""Checks each request before its endpoint, and completes its answer."""

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from apps.core import uploads
from apps.core.answers import cut, error_response
from apps.core.callers import SAFE_METHODS
from config.request_id import CURRENT, chosen

logger = logging.getLogger(__name__)

#: Monitoring asks each process for these, by its address. So they are
#: answered with any Host header.
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}
#: Longer addresses are refused: nothing here needs one.
_MOST_ADDRESS = 8192
#: Host headers that are remembered, at most: ALLOWED_HOSTS may allow any.
_MOST_HOSTS = 1000
#: For all answers except the documents' page: a browser runs nothing of them.
_POLICY = "default-src 'none'; frame-ancestors 'none'"


class RequestGuard:
    """Refuses requests that must not be read, and hosts that are not ours.

    The check of the Host header keeps a web page whose name was pointed at
    this server from driving it. Probes and /metrics are exempt: who asks for
    them uses addresses of their own. The check of the origin stops a page of
    another site: its forms need no permission to be posted here.
    """

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponse]
    ) -> None:
        self.get_response = get_response
        #: Host headers that were accepted: Django would judge each one again.
        self._accepted: set[str] = set()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request, or refuse it unread."""
        began = time.monotonic()
        request_id = chosen(request.META.get("HTTP_X_REQUEST_ID"))
        token = CURRENT.set(request_id)
        try:
            response = self._answer(request)
            response["X-Request-Id"] = request_id
            if logger.isEnabledFor(logging.DEBUG):
                _log(request, response.status_code, began)
        finally:
            CURRENT.reset(token)
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        is_head = request.method == "HEAD"
        if is_head:
            request.method = "GET"
        response = self._refusal(request) or self.get_response(request)
        if response.status_code == 405:
            response = _not_allowed(response.headers.get("Allow", ""))
        if response.status_code == 204:  # RFC 9110, section 8.6
            del response["Content-Type"]
        elif not response.streaming:  # else Granian would send it chunked
            response["Content-Length"] = str(len(response.content))
        response["X-Content-Type-Options"] = "nosniff"
        if "Content-Security-Policy" not in response.headers:
            response["Content-Security-Policy"] = _POLICY
        if is_head:
            _drop_content(response)
        return response

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        if len(request.path) + len(request.META["QUERY_STRING"]) > (
            _MOST_ADDRESS
        ):
            return error_response(
                414, f"The address has at most {_MOST_ADDRESS:,} characters."
            )
        if refusal := self._wrong_host(request):
            return refusal
        changes = request.method not in SAFE_METHODS
        if changes and (page := _foreign_page(request)):
            return error_response(
                403,
                f"A web page of another site sent this ({cut(page)}), and"
                " only this host's own may change anything here. A program"
                " sends neither Origin nor Sec-Fetch-Site.",
            )
        return _wrong_length(request)

    def _wrong_host(self, request: HttpRequest) -> HttpResponse | None:
        host = request.META.get("HTTP_HOST")
        if host in self._accepted or request.path in _PROBES:
            return None
        try:
            request.get_host()
        except DisallowedHost as error:
            return error_response(
                400, f"{cut(str(error), 300)} (the setting ALLOWED_HOSTS)"
            )
        if host is not None and len(self._accepted) < _MOST_HOSTS:
            self._accepted.add(host)
        return None


def _log(request: HttpRequest, status: int, began: float) -> None:
    took = time.monotonic() - began
    logger.debug(
        "request",
        extra={
            "method": request.META["REQUEST_METHOD"],
            "path": cut(request.path, 200),
            "status": status,
            "took_ms": round(took * 1000, 1),
        },
    )


def _wrong_length(request: HttpRequest) -> HttpResponse | None:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isascii() or not length.isdigit():
        return error_response(400, "Content-Length must be a number.")
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if (request.method, request.path) == uploads.OPERATION:
        if "HTTP_TRANSFER_ENCODING" in request.META:
            return None  # its length shows when it is read
        most = uploads.MOST
    if len(length) > 18 or int(length) > most:
        return error_response(413, f"At most {most} bytes are read.")
    return None


def _foreign_page(request: HttpRequest) -> str | None:
    """Return the header by which a page of another site sent the request.

    Browsers send Origin with each POST, and Sec-Fetch-Site to localhost and
    over TLS. A page can set neither.
    """
    site = request.META.get("HTTP_SEC_FETCH_SITE")
    if site is not None and site.lower() in ("cross-site", "same-site"):
        return f"Sec-Fetch-Site: {site}"
    origin = request.META.get("HTTP_ORIGIN")
    if origin is not None and not _is_own(
        origin.lower(), request.META.get("HTTP_HOST", "").lower()
    ):
        return f"Origin: {origin}"
    return None


def _is_own(origin: str, host: str) -> bool:
    """Tell whether an origin is that of a Host header.

    The schemes may differ, because a proxy may end TLS.
    """
    scheme, _, authority = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    return default is not None and host in (
        authority, f"{authority}:{default}"
    )


def _not_allowed(allowed: str) -> HttpResponse:
    """Answer 405; HEAD is allowed wherever GET is."""
    methods = [method.strip() for method in allowed.split(",")]
    if "GET" in methods and "HEAD" not in methods:
        allowed += ", HEAD"
    return error_response(
        405, f"Not allowed here; allowed: {allowed}.", Allow=allowed
    )


def _drop_content(response: HttpResponse | StreamingHttpResponse) -> None:
    """Empty an answer; its headers stay, Content-Length included."""
    if isinstance(response, StreamingHttpResponse):
        response.streaming_content = ()
    else:
        response.content = b""

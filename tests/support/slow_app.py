"""A WSGI application behind the service's front, with less patience."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from config.front import Front

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

LIMIT = 1.5  # seconds


def _echo(
    environ: dict[str, Any], start_response: "StartResponse"
) -> Iterable[bytes]:
    """Answer with the body; it has come whole by now."""
    source = environ["wsgi.input"]
    body = source.read() if isinstance(source, io.BytesIO) else b""
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


application = Front(_echo, most=1000, limit=LIMIT)

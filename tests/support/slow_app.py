"""A WSGI application behind the service's front, with less patience."""

import io
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from apps.core.processes import stop_once
from config.front import Front

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

LIMIT = 1.5  # seconds


def _echo(
    environ: dict[str, Any], start_response: "StartResponse"
) -> Iterable[bytes]:
    """Answer with the body; it has come whole by now.

    /slow takes a second and a half.
    """
    if environ["PATH_INFO"] == "/slow":
        print("slow request", flush=True)
        time.sleep(1.5)
    source = environ["wsgi.input"]
    body = source.read() if isinstance(source, io.BytesIO) else b""
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def make() -> Front:
    """Make the application: what Granian's --factory calls.

    A test that imports this module must not block its own signals.
    """
    stop_once()
    return Front(_echo, most=1000, limit=LIMIT)

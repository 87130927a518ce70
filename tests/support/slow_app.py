"""A WSGI application behind the service's front, with less patience."""

import io
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from apps.core.processes import stop_once
from apps.core.uploads import Upload
from config.front import Front

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

LIMIT = 1.5  # seconds
#: What the answer to an upload begins with.
LONG = 12 * 2**20


def _echo(
    environ: dict[str, Any], start_response: "StartResponse"
) -> Iterable[bytes]:
    """Answer with the body; it has come whole by now.

    /slow takes a second and a half. An upload has a long answer.
    """
    if environ["PATH_INFO"] == "/timers":
        start_response("200 OK", [])
        return _long_answer(environ["wsgi.input"])
    if environ["PATH_INFO"] == "/slow":
        print("slow request", flush=True)
        time.sleep(1.5)
    source = environ["wsgi.input"]
    body = source.read() if isinstance(source, io.BytesIO) else b""
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def _long_answer(source: Upload) -> Iterator[bytes]:
    """Read an upload at once; return an answer that ends with its length."""
    length = 0
    while piece := source.read(65_536):
        length += len(piece)
    return itertools.chain(
        itertools.repeat(b" " * 65_536, LONG // 65_536), [b"%d" % length]
    )


def make() -> Front:
    """Make the application: what Granian's --factory calls.

    A test that imports this module must not block its own signals.
    """
    stop_once()
    return Front(_echo, most=1000, limit=LIMIT)

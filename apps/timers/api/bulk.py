"""The endpoints for many timers at once."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from apps.core.answers import error_response
from apps.core.uploads import CutOff, TooLong
from apps.core import uploads
from apps.timers import bulk
from apps.timers.api.bulk_body import (
    Chunk,
    NotArray,
    Raw,
    array_items,
    chunks,
    lines,
)
from apps.timers.api.bulk_items import Answers, Wanted, read_item
from apps.timers.api.headers import IdempotencyKey
from apps.timers.api.routes import router
from apps.timers.api.schemas import ErrorOut
from apps.timers.storage.bulk import RequestChunk

MOST_ITEMS = 10_000
_LINES = "application/x-ndjson"
_MOST_IN_MEMORY = 1024 * 1024
_PIECE = 64 * 1024


@router.post("/timers", response={200: None, frozenset({400, 403, 408, 413, 422, 503}): ErrorOut}, summary="Set many timers")
def create_timers(
    request: HttpRequest, idempotency_key: IdempotencyKey = None
) -> HttpResponseBase:
    """Set many timers."""
    try:
        if request.content_type == _LINES:
            return _answer_lines(_stored(chunks(lines(request.read)), idempotency_key))
        items = list(array_items(request.read))
    except NotArray as error:
        return error_response(400, f"{error}")
    except TooLong:
        return error_response(413, "x")
    except CutOff:
        return error_response(408, "x")
    return _answer_lines(_stored(chunks(items), idempotency_key))


def _stored(chunks: Iterator[Chunk], key: str | None) -> Iterator[bytes]:
    answers = Answers()
    with ThreadPoolExecutor(1) as storing:
        before: Future[bytes] | None = None
        for chunk in chunks:
            items = [read_item(raw) for raw in chunk.items]
            if before is not None:
                yield before.result()
            before = storing.submit(_store, chunk, items, answers, key)
        if before is not None:
            yield before.result()


def _store(chunk, items, answers, key):
    request_chunk = key and RequestChunk(key, chunk.number, chunk.fingerprint())
    return bulk.create_chunk([item.timer for item in items if isinstance(item, Wanted)], request_chunk, answers.of(items))


def _answer_lines(texts: Iterator[bytes]) -> HttpResponseBase:
    spool = tempfile.SpooledTemporaryFile(_MOST_IN_MEMORY)
    for text in texts:
        spool.write(text)
    spool.seek(0)
    return StreamingHttpResponse(_pieces(spool), content_type=_LINES)


def _pieces(spool: IO[bytes]) -> Iterator[bytes]:
    with spool:
        while piece := spool.read(_PIECE):
            yield piece

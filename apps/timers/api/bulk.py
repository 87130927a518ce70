"""The endpoints for many timers at once."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from itertools import islice
from typing import IO, NamedTuple

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from apps.accounts.authors import author_of
from apps.core.answers import error_response
from apps.core.callers import account_of
from apps.core.uploads import MOST, CutOff, TooLong
from apps.timers import bulk, services
from apps.timers.api import finding
from apps.timers.api.bulk_body import (
    Chunk,
    NotArray,
    array_items,
    chunks,
    lines,
)
from apps.timers.api.bulk_items import (
    Answers,
    Errors,
    Wanted,
    read_item,
)
from apps.timers.api.bulk_schemas import (
    DOCUMENT,
    LINES,
    MOST_ITEMS,
    CancelIn,
    Cancelled,
    Refused,
)
from apps.timers.api.headers import IDEMPOTENCY_KEY, idempotency_key
from apps.timers.api.limits import show_limits
from apps.timers.api.schemas import ErrorOut, TimerCreated
from apps.timers.storage.bulk import RequestChunk

#: GET /timers is in this router, and a path can be in one only.
router = finding.router

#: A longer answer is kept in a file until it is sent.
_MOST_IN_MEMORY = 1024 * 1024
_PIECE = 64 * 1024
#: Items are read in a row, then there is a pause; in seconds.
_UNTIL_PAUSE = 25
_PAUSE = 0.0001


class Request(NamedTuple):
    """Whose timers are to be set, and the request's `Idempotency-Key`."""

    account: int
    key: str | None


@router.post(
    "/timers",
    response={
        200: list[TimerCreated | Refused],
        frozenset({400, 403, 408, 413, 422, 503}): ErrorOut,
    },
    summary="Set many timers",
    openapi_extra={**DOCUMENT, **IDEMPOTENCY_KEY},
)
def create_timers(request: HttpRequest) -> HttpResponseBase:
    """Set many timers: a JSON array, or lines of JSON (NDJSON).

    Lines come as application/x-ndjson: at most 128 KiB each, 64 MiB in all.
    Each item is what POST /timer takes. There is one result for each, in
    their order, when all are stored. An item that is not valid costs only
    itself, and so does one that a limit of the account refuses: send it again
    later. Timers are stored 500 at a time; an error answer says that some
    may have been stored. Repeat the request with the same Idempotency-Key
    then: nothing is stored twice.
    """
    ask = Request(account_of(request), idempotency_key(request))
    as_lines = request.content_type == LINES
    try:
        if as_lines:
            found = chunks(lines(request.read))
            return _answer(ask, _stored(ask, found), LINES)
        items = list(islice(array_items(request.read), MOST_ITEMS + 1))
        if len(items) > MOST_ITEMS:
            return _too_many()
        texts = _stored(ask, chunks(items))
        return _answer(ask, _as_array(texts), "application/json")
    except NotArray as error:
        return error_response(
            400,
            f"The body must be a JSON array of timers ({error}), or one timer"
            f" a line with the content-type {LINES}.",
        )
    except TooLong:
        return error_response(
            413,
            f"At most {MOST} bytes are read. Timers before that may have been"
            " stored.",
        )
    except CutOff:
        return error_response(408, "The body did not arrive whole.")


@router.post(
    "/timers/cancel",
    response={
        200: Cancelled,
        frozenset({400, 403, 408, 413, 422, 503}): ErrorOut,
    },
    summary="Cancel many timers",
)
def cancel_timers(request: HttpRequest, body: CancelIn) -> Cancelled:
    """Cancel many timers that wait: by id, or by filter.

    With `dry_run` none is cancelled: `found` says how many would be.
    """
    account = account_of(request)
    if body.ids is not None:
        ids, has_more = list(dict.fromkeys(body.ids)), False
    else:
        found, after = services.find_timers(
            account, body.timer_filter(), body.limit
        )
        ids, has_more = [timer.id for timer in found], after is not None
    if body.dry_run:
        return Cancelled(found=len(ids), has_more=has_more)
    found_by = "id" if body.ids is not None else body.given()
    cancelled = bulk.cancel(author_of(request), ids, found_by)
    return Cancelled(
        found=len(ids),
        cancelled=len(cancelled),
        has_more=has_more,
        not_cancelled=[each for each in ids if each not in cancelled],
    )


def _too_many() -> HttpResponse:
    return error_response(
        413,
        f"An array has at most {MOST_ITEMS:,} timers. Send several, or one"
        f" timer a line with the content-type {LINES}.",
    )


def _stored(ask: Request, found: Iterable[Chunk]) -> Iterator[bytes]:
    """Yield the answers to each chunk.

    While one chunk is stored, the next one is read.
    """
    answers = Answers()
    with ThreadPoolExecutor(1) as storing:
        before: Future[bytes] | None = None
        for chunk in found:
            items = list(_read(ask.account, chunk))
            if before is not None:
                yield before.result()
            before = storing.submit(
                # Its log lines are this request's as well.
                copy_context().run, _store, ask, chunk, items, answers
            )
        if before is not None:
            yield before.result()


def _read(account: int, chunk: Chunk) -> Iterator[Wanted | Errors]:
    """Read a chunk's items; let other threads run every millisecond.

    They would wait five milliseconds each time, Python's switch interval.
    """
    for number, raw in enumerate(chunk.items):
        if number % _UNTIL_PAUSE == 0:
            time.sleep(_PAUSE)
        yield read_item(account, raw)


def _store(
    ask: Request,
    chunk: Chunk,
    items: Sequence[Wanted | Errors],
    answers: Answers,
) -> bytes:
    asked = None
    if ask.key is not None:
        asked = RequestChunk(
            ask.account, ask.key, chunk.number, chunk.fingerprint()
        )
    timers = [item.timer for item in items if isinstance(item, Wanted)]
    return bulk.create_chunk(timers, asked, answers.of(items))


def _as_array(texts: Iterable[bytes]) -> Iterator[bytes]:
    yield b"["
    for number, text in enumerate(texts):
        yield b",\n" if number else b""
        yield text[:-1].replace(b"\n", b",\n")
    yield b"]\n"


def _answer(
    ask: Request, texts: Iterable[bytes], content_type: str
) -> StreamingHttpResponse:
    """Return an answer when all of it is known.

    Many clients read nothing before they have sent everything. And an answer
    that has begun can't become an error any more.
    """
    with ExitStack() as stack:
        spool = stack.enter_context(
            tempfile.SpooledTemporaryFile(_MOST_IN_MEMORY)
        )
        for text in texts:
            spool.write(text)
        stack.pop_all()  # it is closed when the answer is sent
    length = spool.tell()
    spool.seek(0)
    answer = StreamingHttpResponse(_pieces(spool), content_type=content_type)
    answer["Content-Length"] = str(length)
    show_limits(ask.account, answer)
    return answer


def _pieces(spool: IO[bytes]) -> Iterator[bytes]:
    with spool:
        while piece := spool.read(_PIECE):
            yield piece

"""The API as a whole: its documents, its parser and its error answers.

Every error is JSON: `{"detail": a sentence, "errors": [{field, message}]}`.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.openapi.docs import Swagger
from ninja.operation import Operation
from ninja.parser import Parser
from pydantic import BaseModel

from apps.monitoring.api import router as monitoring
from apps.timers.api.gave_up import ReplayIn
from apps.timers.api.routes import router as timers
from apps.timers.api.schemas import RetryIn, TimerIn
from apps.timers.services import (
    AlreadyFired,
    ListTooSlow,
    NotGivenUp,
    StoreUnavailable,
    TriedTooOften,
    UnknownPlace,
)
from apps.timers.storage import store
from apps.timers.storage.aside import RowUnwritable
from apps.webhooks import jsontext

_AMOUNTS = ("hours", "minutes", "seconds")
#: Errors in one answer, at most: it should not outgrow the request.
_MOST_ERRORS = 20
#: Characters that an answer repeats, at most: of a name, of a field's
#: sentence, and of the sentence about the whole request.
_NAME, _MESSAGE, _DETAIL = 80, 1000, 2000

_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)


class StrictParser(Parser):
    """Takes JSON as RFC 8259 has it, in UTF-8, and nothing else."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Return the parsed body; raise NotJSON with a reason.

        A body that is a Number becomes 0: pydantic would take a Number for
        an object with attributes.
        """
        parsed = jsontext.loads(request.body)
        if isinstance(parsed, dict) and len(parsed) > _MOST_ERRORS:
            _drop_most_unknown(parsed)
        number = isinstance(parsed, jsontext.Number)
        return 0 if number else parsed  # type: ignore[return-value]


def _drop_most_unknown(body: dict[str, Any]) -> None:
    """Drop the unknown fields beyond those that an answer names.

    Each one is an error, and thousands cost a second of processor time.
    """
    known = {
        field.alias or name
        for schema in (TimerIn, ReplayIn)
        for name, field in schema.model_fields.items()
    }
    unknown = [name for name in body if name not in known]
    for name in unknown[_MOST_ERRORS:]:
        del body[name]


class Docs(Swagger):
    """The documents' page, which may use this server's own files only.

    Swagger UI sets styles on elements, hence 'unsafe-inline' for those.
    """

    def render_page(
        self, request: HttpRequest, api: NinjaAPI, **kwargs: Any
    ) -> HttpResponse:
        """Return the page with its Content-Security-Policy."""
        response = super().render_page(request, api, **kwargs)
        response["Content-Security-Policy"] = _DOCS_POLICY
        return response


def cut(text: str, most: int = _NAME) -> str:
    """Return the text, or its beginning if it is too long to be repeated."""
    return text if len(text) <= most else f"{text[:most - 1]}…"


def error_response(
    status: int,
    detail: str,
    errors: Iterable[tuple[str, str]] = (),
    **headers: str,
) -> HttpResponse:
    """Return an error answer in the shape that all of them have."""
    return JsonResponse(
        {
            "detail": cut(detail, _DETAIL),
            "errors": [
                {"field": field, "message": cut(message, _MESSAGE)}
                for field, message in errors
            ],
        },
        status=status,
        headers={key.replace("_", "-"): value
                 for key, value in headers.items()},
    )


class TimerAPI(NinjaAPI):
    """The API; generated clients name their methods as our functions."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Return the function's name, without the module's."""
        return operation.view_func.__name__


api = TimerAPI(
    title="Timer service",
    version=settings.VERSION,
    description="Post a URL and a delay; when the timer expires, the URL is"
    " called, once.",
    docs_url="/api/docs",
    openapi_url="/api/openapi.json",
    docs=Docs(),
    parser=StrictParser(),
)


def strict_query(
    run: Callable[..., HttpResponseBase]
) -> Callable[..., HttpResponseBase]:
    """Make an operation refuse query parameters that it does not know."""

    @wraps(run)
    def checked(request: HttpRequest, **values: Any) -> HttpResponseBase:
        if not request.META["QUERY_STRING"]:
            return run(request, **values)
        if errors := _wrong_parameters(request):
            return _not_valid(errors)
        return run(request, **values)

    return checked


api.add_decorator(strict_query, mode="view")
api.add_router("", timers)
api.add_router("", monitoring)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    if not request.body and any(e["loc"][0] == "body" for e in error.errors):
        return _not_json(request, "it is empty")
    return _not_valid([
        pair
        for item in error.errors[:_MOST_ERRORS]
        for pair in _field_errors(request, item)
    ])


def _not_valid(errors: list[tuple[str, str]]) -> HttpResponse:
    """Answer which fields are wrong: each has a name and a sentence."""
    fields = ", ".join(dict.fromkeys(field for field, _ in errors))
    return error_response(422, f"Not valid: {fields}.", errors)


@cache
def _parameters() -> dict[tuple[str, str], dict[str, bool]]:
    """Return each operation's query parameters, by its method and path.

    A parameter's value says whether a query may have it more than once.
    """
    paths = api.get_openapi_schema(path_prefix="")["paths"]
    return {
        (method.upper(), path): {
            each["name"]: each["schema"].get("type") == "array"
            for each in operation["parameters"]
            if each["in"] == "query"
        }
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def _wrong_parameters(request: HttpRequest) -> list[tuple[str, str]]:
    """Return what is wrong with the query: names and sentences."""
    assert request.resolver_match is not None
    assert request.method is not None
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", request.resolver_match.route)
    known = _parameters()[request.method, f"/{path}"]
    others = f"those are {', '.join(known)}" if known else "there are none"
    wrong = []
    for name, values in request.GET.lists():
        if name not in known:
            sentence = f"is not a query parameter here; {others}"
            wrong.append((cut(name), sentence))
        elif len(values) > 1 and not known[name]:
            wrong.append((name, "may stand once only"))
    return wrong[:_MOST_ERRORS]


def _fields(request: HttpRequest, within: tuple[str | int, ...] = ()) -> str:
    """Name the fields that the body, or a part of it, may have."""
    schema: type[BaseModel] = TimerIn
    if request.path == "/timers/replay":
        schema = ReplayIn
    elif within[:1] == ("retry",):
        schema = RetryIn
    fields = schema.model_fields.items()
    return ", ".join(field.alias or name for name, field in fields)


def _field_errors(
    request: HttpRequest, item: dict[str, Any]
) -> list[tuple[str, str]]:
    """Turn one of pydantic's errors into pairs: a field, and what to do."""
    # ("body", parameter, field…) for a body, ("path", name) for a path. A
    # query has the second form; for an item of a list, the first one.
    names = item["loc"][1:]
    if item["loc"][0] == "body" or len(names) > 1:
        names = names[1:]
    field = cut(".".join(str(name) for name in names))
    kind = item["type"]
    if kind == "too_far":
        return [(name, item["msg"]) for name in _AMOUNTS]
    known = _fields(request, names)
    if kind == "string_unicode":
        return [(field or "body",
                 "has a field whose name contains half of a surrogate pair;"
                 f" the fields are {known}")]
    if not names and kind == "wrong":
        return [("body", item["msg"])]
    if not names:
        return [("body", f"must be a JSON object with {known}")]
    sentences = {
        "missing": "is required",
        "extra_forbidden": f"is not a field; those are {known}",
        "list_type": "must be a list",
        "too_long": f"must have at most {_most_items(item)} items",
        "uuid_parsing": "must be a UUID, as POST /timer returned it",
    }
    return [(field, sentences.get(kind, item["msg"]))]


def _most_items(item: dict[str, Any]) -> Any:
    return item.get("ctx", {}).get("max_length")


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, jsontext.NotJSON):
        return _not_json(request, str(error.__cause__))
    return error_response(error.status_code, error.message)


def _not_json(request: HttpRequest, reason: str) -> HttpResponse:
    fields = _fields(request)
    return error_response(
        400, f"The body must be a JSON object with {fields}: {reason}."
    )


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return error_response(404, str(error) or "Not found.")


@api.exception_handler(StoreUnavailable)
def _unavailable(
    request: HttpRequest, error: StoreUnavailable
) -> HttpResponse:
    return error_response(
        503,
        "Postgres can't be reached; try again. A timer that was being"
        " created may have been stored.",
        Retry_After="1",
    )


@api.exception_handler(ListTooSlow)
def _list_too_slow(request: HttpRequest, error: ListTooSlow) -> HttpResponse:
    return error_response(
        503,
        "Postgres did not make the list in time. Narrow it by host, status,"
        " from or to, lower limit, or try again.",
        Retry_After="1",
    )


@api.exception_handler(AlreadyFired)
def _already_fired(request: HttpRequest, error: AlreadyFired) -> HttpResponse:
    return error_response(409, "The timer has fired; it can't be cancelled.")


@api.exception_handler(RowUnwritable)
def _row_unwritable(
    request: HttpRequest, error: RowUnwritable
) -> HttpResponse:
    return error_response(
        409,
        f"The timer's row can't be changed: {error}. Mend the row in"
        " Postgres.",
    )


@api.exception_handler(NotGivenUp)
def _not_given_up(request: HttpRequest, error: NotGivenUp) -> HttpResponse:
    return error_response(
        409,
        "The timer did not give up; only one that is failed, unknown or"
        " missed is replayed.",
    )


@api.exception_handler(TriedTooOften)
def _tried_too_often(
    request: HttpRequest, error: TriedTooOften
) -> HttpResponse:
    return error_response(
        409,
        f"The timer was tried {store.MOST_ATTEMPTS:,} times or more, and is"
        " not replayed any more; set a new one.",
    )


@api.exception_handler(UnknownPlace)
def _unknown_place(request: HttpRequest, error: UnknownPlace) -> HttpResponse:
    return _not_valid([
        ("after", "is no timer; it must be an answer's `next`")
    ])

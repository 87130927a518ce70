"""The API as a whole: its documents, its parser and its error answers.

Every error is JSON: `{"detail": a sentence, "errors": [{field, message}]}`.
"""

import re
from collections.abc import Callable
from functools import cached_property, partial, wraps
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.openapi.docs import Swagger
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation
from ninja.parser import Parser

from apps.accounts.api import router as account
from apps.accounts.log_api import add_errors_to as add_log_errors_to
from apps.accounts.log_api import router as account_log
from apps.accounts.signing_api import router as signing
from apps.core.answers import MOST_ERRORS, cut, error_response, not_valid
from apps.core.reaching import PostgresAway
from apps.core.sentences import Names, field_errors
from apps.monitoring.api import router as monitoring
from apps.timers.api import errors as timer_errors
from apps.timers.api.bulk import router as many_timers
from apps.timers.api.by_key import router as timers_by_key
from apps.timers.api.erasing import router as erased
from apps.timers.api.explain import router as explained
from apps.timers.api.limits import router as limits
from apps.timers.api.routes import creating
from apps.timers.api.routes import router as timers
from apps.webhooks import jsontext
from config.document import completed

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
        if isinstance(parsed, dict) and len(parsed) > MOST_ERRORS:
            _drop_most_unknown(parsed, _body_fields(request))
        number = isinstance(parsed, jsontext.Number)
        return 0 if number else parsed  # type: ignore[return-value]


def _drop_most_unknown(body: dict[str, Any], known: list[str]) -> None:
    """Drop the unknown fields beyond those that an answer names.

    Each one is an error, and thousands cost a second of processor time.
    """
    unknown = [name for name in body if name not in known]
    for name in unknown[MOST_ERRORS:]:
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


class TimerAPI(NinjaAPI):
    """The API; generated clients name their methods as our functions."""

    @cached_property
    def document(self) -> OpenAPISchema:
        """The API's document; to make it takes half a second."""
        made = super().get_openapi_schema(path_prefix="")
        made.update(completed(made))
        return made

    def get_openapi_schema(
        self,
        *,
        path_prefix: str | None = None,
        path_params: dict[str, Any] | None = None,
    ) -> OpenAPISchema:
        """Return the document; the API's paths begin at the root."""
        return self.document

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
            return not_valid(errors)
        return run(request, **values)

    return checked


api.add_decorator(strict_query, mode="view")
api.add_router("", creating)
api.add_router("", timers_by_key)
api.add_router("", timers)
api.add_router("", many_timers)
api.add_router("", explained)
api.add_router("", erased)
api.add_router("", account)
api.add_router("", account_log)
api.add_router("", signing)
api.add_router("", limits)
api.add_router("", monitoring)
timer_errors.add_to(api)
add_log_errors_to(api)


@api.exception_handler(PostgresAway)
def _postgres_away(request: HttpRequest, error: PostgresAway) -> HttpResponse:
    return error_response(
        503,
        "Postgres can't be reached; try again. If you were creating"
        " something, it may have been stored.",
        Retry_After="1",
    )


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    # Only requests whose errors are about a body have read one.
    if any(e["loc"][0] == "body" for e in error.errors) and not request.body:
        return _not_json(request, "it is empty")
    return not_valid([
        pair
        for item in error.errors[:MOST_ERRORS]
        for pair in _field_errors(request, item)
    ])


def _operation(request: HttpRequest) -> dict[str, Any]:
    """Return what the API's document says of a request's operation."""
    assert request.resolver_match is not None
    assert request.method is not None
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", request.resolver_match.route)
    found: dict[str, Any] = api.document["paths"][f"/{path}"]
    operation: dict[str, Any] = found[request.method.lower()]
    return operation


def _wrong_parameters(request: HttpRequest) -> list[tuple[str, str]]:
    """Return what is wrong with the query: names and sentences."""
    # Each parameter's name, and whether it may stand more than once.
    known = {
        each["name"]: each["schema"].get("type") == "array"
        for each in _operation(request)["parameters"]
        if each["in"] == "query"
    }
    others = f"those are {', '.join(known)}" if known else "there are none"
    wrong = []
    for name, values in request.GET.lists():
        if name not in known:
            sentence = f"is not a query parameter here; {others}"
            wrong.append((cut(name), sentence))
        elif len(values) > 1 and not known[name]:
            wrong.append((name, "may stand once only"))
    return wrong[:MOST_ERRORS]


def _body_fields(
    request: HttpRequest, within: Names = ()
) -> list[str]:
    """Name the fields of a body, or of its innermost part that has some."""
    body = _operation(request).get("requestBody")
    if body is None:
        return []
    fields = _properties(body["content"]["application/json"]["schema"])
    for name in within:
        inner = _properties(fields.get(str(name), {}))
        if not inner:
            break
        fields = inner
    return list(fields)


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema's fields, those of what it may be besides null."""
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            name = choice["$ref"].rpartition("/")[2]
            choice = api.document["components"]["schemas"][name]
        if "properties" in choice:
            found: dict[str, Any] = choice["properties"]
            return found
    return {}


def _field_errors(
    request: HttpRequest, item: dict[str, Any]
) -> list[tuple[str, str]]:
    # ("body", parameter, field…) for a body, ("path", name) for a path. A
    # query has the second form; for an item of a list, the first one.
    names = item["loc"][1:]
    if item["loc"][0] == "body" or len(names) > 1:
        names = names[1:]
    return field_errors(item, names, partial(_body_fields, request))


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, jsontext.NotJSON):
        return _not_json(request, str(error.__cause__))
    return error_response(error.status_code, error.message)


def _not_json(request: HttpRequest, reason: str) -> HttpResponse:
    fields = ", ".join(_body_fields(request))
    return error_response(
        400, f"The body must be a JSON object with {fields}: {reason}."
    )


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return error_response(404, str(error) or "Not found.")

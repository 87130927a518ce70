"""The API as a whole: its documents, its parser and its error answers.

Every error is JSON: `{"detail": a sentence, "errors": [{field, message}]}`.
"""

import json
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser

from apps.monitoring.api import router as monitoring
from apps.timers.api import router as timers
from apps.timers.replays import ReplayIn
from apps.timers.schemas import TimerIn
from apps.timers.services import (
    AlreadyFired,
    NotGivenUp,
    StoreUnavailable,
    UnknownPlace,
)

_AMOUNTS = ("hours", "minutes", "seconds")
_DIGITS = 18  # of a whole number that still fits everywhere


class NotJSON(ValueError):
    """The body is not JSON; the text says where it stops being it."""


def _bounded_int(digits: str) -> int:
    """Read a JSON integer; one of any length stays cheap to handle."""
    if len(digits) <= _DIGITS:
        return int(digits)
    return -1 if digits.startswith("-") else 10**_DIGITS


def _refuse_constant(name: str) -> Any:
    raise NotJSON(f"{name} is not JSON")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a name that stands in it twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise NotJSON(f"{name!a} stands twice in one object")
        found[name] = value
    return found


class StrictParser(Parser):
    """Takes JSON as RFC 8259 has it, in UTF-8, and nothing else."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Return the parsed body; raise NotJSON with a reason."""
        try:
            parsed: dict[str, Any] = json.loads(
                request.body.decode(),
                parse_int=_bounded_int,
                parse_constant=_refuse_constant,
                object_pairs_hook=_refuse_twins,
            )
        except UnicodeDecodeError:
            raise NotJSON("the body is not UTF-8") from None
        except RecursionError:
            raise NotJSON("it is nested too deeply") from None
        except json.JSONDecodeError as error:
            raise NotJSON(str(error)) from None
        return parsed


def error_response(
    status: int,
    detail: str,
    errors: Iterable[tuple[str, str]] = (),
    **headers: str,
) -> HttpResponse:
    """Return an error in the one shape that all of them have."""
    return JsonResponse(
        {
            "detail": detail,
            "errors": [
                {"field": field, "message": message}
                for field, message in errors
            ],
        },
        status=status,
        headers={key.replace("_", "-"): value
                 for key, value in headers.items()},
    )


api = NinjaAPI(
    title="Timer service",
    version=settings.VERSION,
    description="Post a URL and a delay; when the timer expires, the URL is"
    " called, once.",
    docs_url="/api/docs",
    openapi_url="/api/openapi.json",
    parser=StrictParser(),
)
api.add_router("", timers)
api.add_router("", monitoring)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    if not request.body and any(e["loc"][0] == "body" for e in error.errors):
        return _not_json(request, "it is empty")
    takes = _body_fields(request)
    errors = [
        pair for item in error.errors for pair in _field_errors(item, takes)
    ]
    fields = ", ".join(dict.fromkeys(field for field, _ in errors))
    return error_response(422, f"Not valid: {fields}.", errors)


def _body_fields(request: HttpRequest) -> str:
    """Name the fields of the body that is posted there."""
    taken = ReplayIn if request.path == "/timers/replay" else TimerIn
    return ", ".join(
        field.alias or name for name, field in taken.model_fields.items()
    )


def _field_errors(item: dict[str, Any], takes: str) -> list[tuple[str, str]]:
    """Turn one of pydantic's errors into fields and what to do."""
    # ("body", parameter, field…) for a body, ("path", name) for a path; for
    # a query the one or, within a list, the other
    names = item["loc"][1:]
    if item["loc"][0] == "body" or len(names) > 1:
        names = names[1:]
    field = ".".join(str(name) for name in names)
    kind = item["type"]
    if kind == "too_far":
        return [(name, item["msg"]) for name in _AMOUNTS]
    if kind == "string_unicode" and not names:
        return [("body", "has a field whose name contains half of a surrogate"
                         f" pair; the fields are {takes}")]
    if kind == "which_timers":
        return [("body", item["msg"])]
    if not names:
        return [("body", f"must be a JSON object with {takes}")]
    sentences = {
        "missing": "is required",
        "extra_forbidden": f"is not a field; those are {takes}",
        "uuid_parsing": "must be a UUID, as POST /timer returned it",
    }
    return [(field, sentences.get(kind, item["msg"]))]


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, NotJSON):
        return _not_json(request, str(error.__cause__))
    return error_response(error.status_code, error.message)


def _not_json(request: HttpRequest, reason: str) -> HttpResponse:
    return error_response(
        400,
        f"The body must be a JSON object with {_body_fields(request)}:"
        f" {reason}.",
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


@api.exception_handler(AlreadyFired)
def _already_fired(request: HttpRequest, error: AlreadyFired) -> HttpResponse:
    return error_response(409, "The timer has fired; it can't be cancelled.")


@api.exception_handler(NotGivenUp)
def _not_given_up(request: HttpRequest, error: NotGivenUp) -> HttpResponse:
    return error_response(
        409,
        "The timer did not give up; only one that is failed, unknown or"
        " missed is replayed.",
    )


@api.exception_handler(UnknownPlace)
def _unknown_place(request: HttpRequest, error: UnknownPlace) -> HttpResponse:
    errors = [("after", "is no timer; it must be an answer's `next`")]
    return error_response(422, "Not valid: after.", errors)

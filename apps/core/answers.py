"""Error answers: JSON in one shape, no larger than what they answer.

`{"detail": a sentence, "errors": [{"field": a name, "message": a sentence}]}`
"""

from collections.abc import Iterable, Mapping

from django.http import HttpResponse, JsonResponse

#: Errors in one answer, at most: it should not outgrow the request.
MOST_ERRORS = 20
#: Characters of a name, of a field's sentence and of the whole one that are
#: repeated in an answer.
_NAME, _MESSAGE, _DETAIL = 80, 1000, 2000


def cut(text: str, most: int = _NAME) -> str:
    """Return the text, or its beginning if it is too long to be repeated."""
    return text if len(text) <= most else f"{text[:most - 1]}…"


def error_response(
    status: int,
    detail: str,
    errors: Iterable[tuple[str, str]] = (),
    more: Mapping[str, str] | None = None,
    **headers: str,
) -> HttpResponse:
    """Return an error; `errors` are names of fields and sentences.

    `more` is what else a program may want to know.
    """
    return JsonResponse(
        {
            "detail": cut(detail, _DETAIL),
            "errors": [
                {"field": field, "message": cut(message, _MESSAGE)}
                for field, message in errors
            ],
            **(more or {}),
        },
        status=status,
        headers={key.replace("_", "-"): value
                 for key, value in headers.items()},
    )


def not_valid(errors: list[tuple[str, str]]) -> HttpResponse:
    """Return 422 with what is wrong with each field."""
    fields = ", ".join(dict.fromkeys(field for field, _ in errors))
    return error_response(422, f"Not valid: {fields}.", errors)

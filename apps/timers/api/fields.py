"""What the fields of a timer may hold, with errors that name the fix.

jsontext has read the JSON, so a number may be a Number.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from django.conf import settings
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from apps.webhooks.guard import Guard, Network, Refused
from apps.webhooks.jsontext import Number
from apps.webhooks.request import MAX_HEADERS, wrong_headers
from apps.webhooks.target import InvalidURL, parse_target


def whole_number(
    least: int = 0, most: int | None = None
) -> Callable[[Any], int]:
    """Make a check that takes JSON's integers only, and names the fix."""
    bounds = f"{least} or more" if most is None else f"{least} to {most:,}"

    def check(value: Any) -> int:
        if isinstance(value, Number) and value.text.isdecimal():
            value = 10**18  # or more: too much for any field
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not least <= value <= (most or value)
        ):
            raise PydanticCustomError(
                "whole_number",
                "must be a whole number, {bounds}, such as 5"
                " (not a string, a fraction, true or false)",
                {"bounds": bounds},
            )
        return value

    return check


def _url(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError(
            "url", "must be a string such as \"https://example.com/hook\""
        )
    return value


@lru_cache(maxsize=4096)
def _check_host(host: str, allowed: tuple[Network, ...]) -> None:
    """Raise Refused for a host that can't be public; remember the others."""
    Guard(allowed).check_host(host)


def _callable_url(value: str) -> str:
    try:
        _check_host(
            parse_target(value).host, settings.WEBHOOK_ALLOWED_NETWORKS
        )
    except InvalidURL as error:
        reason = str(error)
    except Refused as error:
        reason = (
            f"{error}; it can be called only if the server's setting"
            f" WEBHOOK_ALLOWED_NETWORKS has {error.allowed_by}."
        )
    else:
        return value
    raise wrong(reason)


def wrong(sentence: str) -> PydanticCustomError:
    """Return an error that says just this."""
    return PydanticCustomError("wrong", "{sentence}", {"sentence": sentence})


def wrong_parts(*parts: tuple[str, str]) -> ValidationError:
    """Return errors within a field, each from a name (or "") and a sentence.

    pydantic puts the field before the names.
    """
    return ValidationError.from_exception_data(
        "parts",
        [
            InitErrorDetails(
                type=wrong(sentence), loc=(name,) if name else (), input=None
            )
            for name, sentence in parts
        ],
    )


def _headers(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong('must be an object such as {"x-key": "value"}')
    if found := list(wrong_headers(value)):
        raise wrong_parts(*found)
    return value


def _lateness(value: int) -> int:
    return whole_number(1, settings.MAX_TIMER_DAYS * 86_400)(value)


# The bound stands next to its type, else the API's document has it wrong.
Amount = Annotated[
    int, Field(ge=0, strict=True), BeforeValidator(whole_number())
]
CallableURL = Annotated[
    str,
    BeforeValidator(_url),
    AfterValidator(_callable_url),
    Field(json_schema_extra={"format": "uri", "maxLength": 2048}),
]
Attempts = Annotated[
    int,
    Field(ge=2, le=30, strict=True),
    BeforeValidator(whole_number(2, 30)),
]
Pause = Annotated[
    int,
    Field(ge=1, le=86_400, strict=True),
    BeforeValidator(whole_number(1, 86_400)),
]
Headers = Annotated[
    dict[str, str] | None,
    BeforeValidator(_headers),
    Field(json_schema_extra={"maxProperties": MAX_HEADERS}),
]
Lateness = Annotated[
    int, Field(ge=1, strict=True), BeforeValidator(_lateness)
]

"""What the fields of a timer may hold, with errors that name the fix.

jsontext has read the JSON, so a number may be a Number.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

from django.conf import settings
from ninja import Path
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from apps.webhooks.guard import Guard, Network, Refused
from apps.webhooks.jsontext import Number
from apps.webhooks.request import MAX_HEADERS, wrong_headers
from apps.webhooks.target import InvalidURL, parse_target

MOST_LABELS = 16
LABEL_NAME = re.compile(r"[a-z0-9._-]{1,64}")
_SURROGATE = re.compile("[\ud800-\udfff]")


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


def _labels(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong('must be an object such as {"user": "17"}')
    if len(value) > MOST_LABELS:
        raise wrong(f"may be {MOST_LABELS} at most; these are {len(value)}")
    if found := list(_wrong_labels(value)):
        raise wrong_parts(*found)
    return value


def _wrong_labels(labels: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in labels.items():
        if not LABEL_NAME.fullmatch(name):
            yield "", (
                f"have the name {name[:80]!a}; a name is made of a-z, 0-9,"
                " `.`, `_` and `-`, and has 1 to 64 characters"
            )
        elif not isinstance(value, str):
            yield name, 'must be a string, such as "5" for a number'
        elif len(value) > 255 or not is_storable(value):
            yield name, "must have up to 255 characters, and no U+0000"


def is_storable(text: str) -> bool:
    """Tell whether Postgres can keep a text."""
    return "\0" not in text and not _SURROGATE.search(text)


def _key(value: Any) -> Any:
    is_good = (
        isinstance(value, str)
        and 1 <= len(value) <= 255
        and is_storable(value)
        and not any(unicodedata.category(c) == "Cc" for c in value)
    )
    if not is_good:
        raise wrong(
            "must be a string of 1 to 255 characters, without control"
            " characters"
        )
    return value


# The bound stands next to its type, else the API's document has it wrong.
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
Labels = Annotated[
    dict[str, str] | None,
    BeforeValidator(_labels),
    Field(json_schema_extra={
        "maxProperties": MOST_LABELS,
        "propertyNames": {"pattern": f"^{LABEL_NAME.pattern}$"},
    }),
]
Key = Annotated[
    str,
    BeforeValidator(_key),
    Field(
        min_length=1,
        max_length=255,
        json_schema_extra={"pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"},
    ),
]
PathKey = Annotated[
    Key,
    Path(
        description="Its caller's own name for a timer that has not ended."
        " A `/` may stand in it as it is, or as %2F.",
        examples=["order-17"],
    ),
]
TimerId = Annotated[
    UUID,
    Path(
        description="A timer's `id`.",
        examples=["01a21bd8-6054-705a-b288-d4e597a0b251"],
    ),
]
#: How many timers one request may change.
MostAtOnce = Annotated[
    int,
    Field(ge=1, le=10_000, strict=True),
    BeforeValidator(whole_number(1, 10_000)),
]
Lateness = Annotated[
    int, Field(ge=1, strict=True), BeforeValidator(_lateness)
]

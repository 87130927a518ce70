"""What an answer says of a field that pydantic refused."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apps.core.answers import cut

Names = Sequence[str | int]


def field_errors(
    error: Mapping[str, Any],
    names: Names,
    fields: Callable[[Names], Sequence[str]],
) -> list[tuple[str, str]]:
    """Turn one of pydantic's errors into pairs: a field, and what to do.

    `names` lead from the body to the field. `fields` returns those of the
    body, or of its innermost part on that way that has some.
    """
    field = cut(".".join(str(name) for name in names))
    kind = error["type"]
    if of := error.get("ctx", {}).get("fields"):
        return [(name, error["msg"]) for name in of]
    if not names and kind == "wrong":
        return [("body", error["msg"])]
    known = ", ".join(fields(names))
    if kind == "string_unicode":
        return [(field or "body",
                 "has a field whose name contains half of a surrogate pair;"
                 f" the fields are {known}")]
    if not names:
        return [("body", f"must be a JSON object with {known}")]
    sentences = {
        "missing": "is required",
        "extra_forbidden": f"is not a field; those are {known}",
        "list_type": "must be a list",
        "too_long": f"must have at most {_most_items(error)} items",
        "uuid_parsing": "must be a UUID, as POST /timer returned it",
    }
    return [(field, sentences.get(kind, error["msg"]))]


def _most_items(error: Mapping[str, Any]) -> Any:
    return error.get("ctx", {}).get("max_length")

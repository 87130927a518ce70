"""JSON (RFC 8259) that says the same after it was read and written again.

Python reads 1e400 as infinity, 1.10 as 1.1 and -0 as 0, and is slow with a
million digits. This module keeps such numbers as text.
"""

import json
from codecs import BOM_UTF8
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

_DIGITS = 18  # of a whole number that fits everywhere
_CONSTANTS = {None: "null", True: "true", False: "false"}


class NotJSON(ValueError):
    """The text is not JSON; the message says where it goes wrong."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written, if it is no int of at most 18 digits."""

    text: str


def loads(data: bytes) -> Any:
    """Read JSON in UTF-8, and nothing else, or raise NotJSON.

    An object may have a name only once. Escaped halves of surrogate pairs
    are accepted.
    """
    if data.startswith(BOM_UTF8):
        raise NotJSON("it begins with a byte order mark (BOM): leave it out")
    try:
        return _DECODER.decode(data.decode())
    except UnicodeDecodeError:
        raise NotJSON("the body is not UTF-8") from None
    except RecursionError:
        raise NotJSON("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NotJSON(str(error)) from None


def _read_int(digits: str) -> int | Number:
    if len(digits) > _DIGITS or digits == "-0":
        return Number(digits)
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise NotJSON(f"{name} is not JSON")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a name that stands in it twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise NotJSON(f"{name[:80]!a} stands twice in one object")
        found[name] = value
    return found


# json.loads() would build a decoder each time.
_DECODER = json.JSONDecoder(
    parse_int=_read_int,
    parse_float=Number,
    parse_constant=_refuse_constant,
    object_pairs_hook=_refuse_twins,
)


def dumps(value: Any) -> str:
    """Write what `loads` has read, without a space and with few escapes.

    Raises RecursionError for a value that is nested very deeply.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, Number):
        return value.text
    if isinstance(value, list):
        return f"[{','.join(map(dumps, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(map(_member, value.items()))}}}"
    if type(value) is int:
        return str(value)
    return _CONSTANTS[value]


def _member(pair: tuple[str, Any]) -> str:
    return f"{encode_basestring(pair[0])}:{dumps(pair[1])}"

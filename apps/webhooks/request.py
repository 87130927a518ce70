"""The request that a webhook's creator wants, and whether it can be sent.

The terms and the grammar are HTTP's, RFC 9110.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.webhooks import jsontext

#: Methods whose requests have a body, the default one if none is given.
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
#: All methods that a webhook may have.
METHODS = WITH_BODY | {"GET", "DELETE"}

MAX_BODY = 64 * 1024
MAX_HEADERS = 64
MAX_HEADER_BYTES = 8192

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(r"([!-~]([\t -~]*[!-~])?)?")
_PARAMETER = rf'({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")'
_MEDIA_TYPE = re.compile(
    rf"(({_TOKEN})/({_TOKEN}))(?:[\t ]*+;[\t ]*+(?:{_PARAMETER})?+)*+"
)
_JSON_TYPE = re.compile(r"application/json|.*\+json", re.IGNORECASE)
_CHARSETS = ("utf-8", "us-ascii")

_FRAMING = "is set by the service, which frames the request"
_HOP = "is about the connection, which is the service's own"
_REFUSED = {
    "host": "comes from the URL",
    "content-length": _FRAMING,
    "transfer-encoding": _FRAMING,
    "te": _FRAMING,
    "trailer": _FRAMING,
    "connection": _HOP,
    "keep-alive": _HOP,
    "upgrade": _HOP,
    "expect": "would have the body wait; it is sent at once",
    "accept-encoding": "is set by the service, which reads no compression",
}
_REFUSED_PREFIXES = {
    "proxy-": _HOP,
    "webhook-": "is set and signed by the service",
    "timer-": "is set by the service",
}
#: The service sets these, unless the creator does, in this spelling.
_REPLACED = frozenset({"content-type", "user-agent"})
# CGI and what follows it (WSGI, Rack, PHP) read `webhook_id` as `webhook-id`.
# Some of them also read `webhook.id` so.
_READ_ALIKE = str.maketrans(dict.fromkeys("!#$%&'*+.^_`|~", "-"))


class InvalidRequest(ValueError):
    """The request cannot be sent; the text tells its user how to mend it."""


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request without its URL.

    headers  as given; None if none are given
    body     the bytes to send; None stands for the default body, or no body
    """

    method: str = "POST"
    headers: Mapping[str, str] | None = None
    body: bytes | None = None


def merged(*parts: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of all parts; a later part replaces earlier ones.

    Names are compared without regard to case and go out as they are.
    """
    found = {
        name.lower(): (name, value)
        for part in parts
        for name, value in part.items()
    }
    return dict(found.values())


def wrong_headers(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong: a header's name and a sentence about it.

    The name is "" if the sentence is about all headers together, or about
    the name itself.
    """
    if len(headers) > MAX_HEADERS:
        yield "", f"may be {MAX_HEADERS} at most; these are {len(headers)}"
        return
    seen: set[str] = set()
    size = 0
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            yield "", (
                f"have the name {name[:80]!a}; a name is made of letters,"
                " digits and !#$%&'*+-.^_`|~"
            )
        elif problem := _wrong_header(name.lower(), value, seen):
            yield name, problem
        else:
            seen.add(name.lower())
            size += len(name) + len(value)
    if size > MAX_HEADER_BYTES:
        yield "", (
            f"may have {MAX_HEADER_BYTES:,} bytes in all, names included;"
            f" these have {size:,}"
        )


def _wrong_header(name: str, value: Any, seen: set[str]) -> str | None:
    """Say what is wrong with a header; `name` is in lower case."""
    read = name.translate(_READ_ALIKE)
    reason = _REFUSED.get(read) or next(
        (why for start, why in _REFUSED_PREFIXES.items()
         if read.startswith(start)),
        None,
    )
    if reason is not None:
        as_read = "" if read == name else f" (many receivers read {read[:80]})"
        return f"{reason}{as_read}: leave it out"
    if read != name and read in _REPLACED:
        return f"is read as {read} by many receivers: write it so"
    if name in seen:
        return "stands twice, for case does not count: join the values"
    if not isinstance(value, str):
        return "must be a string, such as \"5\" for a number"
    if not _VALUE.fullmatch(value):
        return (
            "must be printable ASCII, without white space at its ends;"
            " percent-encode or base64 what else it is to say"
        )
    if name == "content-type":
        return _wrong_content_type(value)
    return None


def _wrong_content_type(value: str) -> str | None:
    if not _MEDIA_TYPE.fullmatch(value):
        return "must be a media type, such as text/plain; charset=utf-8"
    if not all(charset in _CHARSETS for charset in _charsets(value)):
        return "must have charset=utf-8 or none: bodies are sent in UTF-8"
    return None


def _charsets(content_type: str) -> list[str]:
    return [
        value.strip('"').lower()
        for name, value in re.findall(rf";[\t ]*{_PARAMETER}", content_type)
        if name.lower() == "charset"
    ]


def encode_body(
    value: Any, method: str, headers: Mapping[str, str] | None
) -> bytes | None:
    """Return the bytes to send for a body, which jsontext.loads has read.

    They are JSON, unless the headers have another content-type: then the
    body must be text. A body of None asks for the default body, which is JSON,
    or for no body; it is returned as it is. Raises InvalidRequest.
    """
    as_json = is_json(headers)
    if method not in WITH_BODY:
        if value is None:
            return None
        raise InvalidRequest(
            f"is not sent with {method}: leave it out, or take the method"
            " POST, PUT or PATCH"
        )
    if not as_json and not isinstance(value, str):
        raise InvalidRequest(
            "must be a string with the content-type"
            f" {_media_type(headers)[:80]}; the default body and other values"
            " are sent as application/json"
        )
    if value is None:
        return None
    text = _as_json(value) if as_json else value
    return _encoded(text, _content_type(headers))


def is_json(headers: Mapping[str, str] | None) -> bool:
    """Tell whether a body is sent as JSON with these headers."""
    return _JSON_TYPE.fullmatch(_media_type(headers)) is not None


def _media_type(headers: Mapping[str, str] | None) -> str:
    return _content_type(headers).partition(";")[0].rstrip()


def _content_type(headers: Mapping[str, str] | None) -> str:
    for name, value in (headers or {}).items():
        if name.lower() == "content-type":
            return value
    return "application/json"


def _as_json(value: Any) -> str:
    try:
        return jsontext.dumps(value)
    except RecursionError:
        raise InvalidRequest("is nested too deeply") from None


def _encoded(text: str, content_type: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "contains half of a surrogate pair; a character such as U+1F600"
            ' is "\\ud83d\\ude00" in JSON'
        ) from None
    if not data.isascii() and "us-ascii" in _charsets(content_type):
        raise InvalidRequest(
            "has more than ASCII's characters: set the content-type's"
            " charset to utf-8"
        )
    if len(data) > MAX_BODY:
        raise InvalidRequest(
            f"may have {MAX_BODY:,} bytes at most; it would be sent with"
            f" {len(data):,}"
        )
    return data

"""What of a creator's request can be sent, and how."""

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.webhooks import jsontext
from apps.webhooks.request import (
    MAX_BODY,
    InvalidRequest,
    encode_body,
    merged,
    wrong_headers,
)
from tests.support.jsonvalues import JSON


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        ([{}], {}),
        ([{"a": "1"}, {"b": "2"}], {"a": "1", "b": "2"}),
        ([{"user-agent": "ours"}, {"User-AGENT": "Mine"}],
         {"User-AGENT": "Mine"}),
        ([{"a": "1"}, {"A": "2", "b": "x"}, {"a": "3"}],
         {"a": "3", "b": "x"}),
    ],
)  # fmt: skip
def test_the_last_one_to_name_a_header_sets_it(
    parts: list[Mapping[str, str]], headers: dict[str, str]
) -> None:
    assert merged(*parts) == headers


GOOD = [
    {},
    {"Authorization": "Bearer a.b=c", "X-Tenant": ""},
    {"!#$%&'*+-.^_`|~09azAZ": "(a)\tb  \"c\"~"},
    {"User-Agent": "mine", "cookie": "a=b; c=d", "accept": "*/*"},
    {"proxy": "1", "webhook": "2", "timers-x": "3", "x-webhook-id": "4"},
    {"Content-Type": "text/csv ;header=present; CHARSET=\"UTF-8\" ;"},
    {"content-type": 'multipart/mixed; boundary="a;charset=x"'},
    {"content-type": "application/vnd.x+json;charset=us-ascii"},
    {f"x{number}": "" for number in range(64)},
    {"x": "v" * 8191},
]


@pytest.mark.parametrize("headers", GOOD, ids=lambda h: repr(h)[:40])
def test_headers_that_can_be_sent(headers: dict[str, str]) -> None:
    assert list(wrong_headers(headers)) == []


BAD: list[tuple[dict[str, Any], str, str]] = [
    *(
        ({name: "x"}, name, "leave it out")
        for name in (
            "host", "Content-Length", "TRANSFER-encoding", "te", "Trailer",
            "connection", "Keep-Alive", "upgrade", "expect",
            "Accept-Encoding", "proxy-authorization", "Proxy-Connection",
            "webhook-id", "Webhook-Signature", "timer-attempt", "Timer-",
        )
    ),
    *(
        ({name: "x"}, "", "have the name")
        for name in (
            "", " ", "a b", "a:", "x\r\ny", "x\n", "é", "\0", "\ud800",
            "a" * 99 + "/", "(x)", "ſ",
        )
    ),
    *(
        ({"x-a": value}, "x-a", "printable ASCII")
        for value in (
            " x", "x ", "\tx", "x\t", " ", "a\r\nb", "a\n", "\na", "a\0b",
            "é", "a\x7f", "\x1b", "\ud800", "\u2028",
        )
    ),
    *(({"x-a": value}, "x-a", "string") for value in (1, None, ["x"], True)),
    ({"x-a": jsontext.Number("1.5")}, "x-a", "string"),
    ({"x-a": "1", "X-A": "2"}, "X-A", "twice"),
    ({f"x{number}": "" for number in range(65)}, "", "64 at most"),
    ({"x": "v" * 8192}, "", "8,192 bytes"),
    *(
        ({"Content-Type": value}, "Content-Type", "media type")
        for value in (
            "", "json", "text/", "/plain", "a/b/c", "a b/c", "text/plain;x",
            "text/plain; x=", 'text/plain; x="', "text/plain, text/csv",
            "text/plain; x =1",
        )
    ),
    *(
        ({"content-type": value}, "content-type", "charset=utf-8")
        for value in (
            "text/plain; charset=latin1", 'a/b;x=1;Charset="utf-16"',
            "application/json;charset=iso-8859-1",
            "a/b;charset=utf-8;charset=x",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "name", "hint"), BAD, ids=lambda value: ascii(value)[:30]
)
def test_headers_that_cannot_be_sent_say_why(
    headers: dict[str, Any], name: str, hint: str
) -> None:
    ((found, sentence),) = wrong_headers({**headers})
    assert found == name
    assert hint in sentence


def test_every_wrong_header_is_named_and_no_value_is_repeated() -> None:
    wrong = list(
        wrong_headers({"Host": "sec", "a": " sec", "b": "sec", "c d": "sec"})
    )
    assert [name for name, _ in wrong] == ["Host", "a", ""]
    assert "sec" not in repr(wrong)


@pytest.mark.parametrize(
    "value", ["a/b" + " " * 8000, "a/b" + " ; " * 2500 + "x",
              "a/b;x=" + '"' * 8000, "a/b" + ';x="\\"' * 1200],
    ids=ascii,
)  # fmt: skip
def test_a_content_type_takes_no_time_to_refuse(value: str) -> None:
    started = time.monotonic()
    assert list(wrong_headers({"content-type": value}))
    assert time.monotonic() - started < 1


TEXT = {"X": "1", "Content-TYPE": "text/plain"}
ASCII = {"content-type": "text/plain;charset=US-ASCII"}


@pytest.mark.parametrize(
    ("value", "method", "headers", "sent"),
    [
        (None, "POST", None, None),
        (None, "GET", None, None),
        (None, "DELETE", TEXT, None),
        (None, "PUT", {"content-type": "application/x+json"}, None),
        ("", "POST", None, b'""'),
        ("é\0", "PATCH", None, '"é\\u0000"'.encode()),
        (False, "POST", None, b"false"),
        ({"a": [1, "b c"]}, "PUT", {"x": "y"}, b'{"a":[1,"b c"]}'),
        ("x", "POST", {"Content-Type": "Application/JSON ; a=b"}, b'"x"'),
        ("x", "POST", {"Content-Type": "a/b+JSON"}, b'"x"'),
        ("", "POST", TEXT, b""),
        ("é\0\n\"", "POST", TEXT, "é\0\n\"".encode()),
        ("x", "POST", ASCII, b"x"),
        ("x", "POST", {"content-type": "application/jsonp"}, b"x"),
        ("x" * 65_536, "POST", TEXT, b"x" * 65_536),
        ("x" * 65_534, "POST", None, b'"' + b"x" * 65_534 + b'"'),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_body_is_json_unless_its_type_says_other(
    value: Any,
    method: str,
    headers: dict[str, str] | None,
    sent: bytes | None,
) -> None:
    assert encode_body(value, method, headers) == sent


@pytest.mark.parametrize(
    ("value", "method", "headers", "hint"),
    [
        (0, "GET", None, "POST, PUT or PATCH"),
        ("x", "DELETE", TEXT, "POST, PUT or PATCH"),
        (None, "POST", TEXT, "text/plain"),
        (5, "POST", TEXT, "must be a string"),
        ({}, "PUT", {"content-type": "application/jsonp"}, "string"),
        ("x" * 65_537, "POST", TEXT, "65,536 bytes at most; it .* 65,537"),
        ("é" * 32_768, "POST", None, "65,538"),
        ("\ud83d", "POST", None, "surrogate"),
        ("\udc00", "POST", TEXT, "surrogate"),
        ({"\ud83d": 1}, "POST", None, "surrogate"),
        ("é", "POST", ASCII, "utf-8"),
        (["é"], "POST", {"content-type": "a/x+json;charset=us-ascii"},
         "utf-8"),
    ],
    ids=lambda value: ascii(value)[:24],
)  # fmt: skip
def test_a_body_that_cannot_be_sent_says_why(
    value: Any, method: str, headers: dict[str, str] | None, hint: str
) -> None:
    with pytest.raises(InvalidRequest, match=hint):
        encode_body(value, method, headers)


def test_a_body_that_is_nested_too_deeply_says_so() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        encode_body(value, "POST", None)


@given(
    JSON,
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    st.none() | st.dictionaries(
        st.sampled_from(["content-type", "Content-Type", "x"]),
        st.sampled_from(["a/b", "a/b+json", "a/b;charset=us-ascii"]),
        max_size=1,
    ),
)
def test_what_is_sent_is_what_was_given_or_it_is_refused(
    value: Any, method: str, headers: dict[str, str] | None
) -> None:
    read = jsontext.loads(json.dumps(value).encode())
    try:
        body = encode_body(read, method, headers)
    except InvalidRequest:
        return
    if body is None:
        assert value is None
        return
    assert len(body) <= MAX_BODY
    if isinstance(value, str) and body == value.encode():
        return
    assert repr(json.loads(body)) == repr(value)

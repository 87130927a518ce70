"""The creator's request as a receiver gets it, byte for byte."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.webhooks import jsontext
from apps.webhooks.request import encode_body, merged, wrong_headers
from apps.webhooks.results import Result
from tests.support.jsonvalues import JSON
from tests.support.receiver import answering, scripted

Call = Callable[..., Result]

many = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", None, None),
        ("GET", b"", None),
        ("DELETE", None, None),
        ("DELETE", b"", None),
        ("POST", None, b"0"),
        ("POST", b"", b"0"),
        ("PUT", b"", b"0"),
        ("PATCH", b"", b"0"),
        ("PUT", b"x", b"1"),
        ("PATCH", b"\0" * 65_536, b"65536"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_length_stands_where_a_body_is_expected(
    call: Call, method: str, body: bytes | None, length: bytes | None
) -> None:
    with scripted(answering()) as server:
        result = call(server.url(), method=method, body=body)

    assert (result.status_code, result.sent) == (200, True)
    head, _, found = server.requests[0].partition(b"\r\n\r\n")
    request_line, *lines = head.split(b"\r\n")
    assert request_line == f"{method} /hook HTTP/1.1".encode()
    lengths = [line for line in lines if line.startswith(b"Content-Length")]
    assert lengths == ([b"Content-Length: " + length] if length else [])
    assert b"transfer-encoding" not in head.lower()
    assert found == (body or b"")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "status", [b"303 See Other\r\nLocation: /", b"503 Busy\r\nRetry-After: 0"]
)
def test_no_method_is_repeated_or_redirected(
    call: Call, method: str, status: bytes
) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    with scripted(answering(answer)) as server:
        result = call(server.url(), method=method, body=None)

    assert result.status_code == int(status[:3])
    assert len(server.requests) == 1


NAMES = st.text(
    st.sampled_from("!#$%&'*+-.^_`|~09azAZ"), min_size=1, max_size=12
) | st.sampled_from(
    ["User-Agent", "content-type", "Cookie", "Authorization", "X", "x"]
)
VALUES = st.text(st.characters(codec="ascii"), max_size=30)


@many
@example(headers={"X-Odd": "@@@SKIP_HEADER@@@"})  # urllib3's own sign
@example(headers={"User-Agent": "@@@SKIP_HEADER@@@"})
@example(headers={"uSER-aGENT": "a \t b", "~": "", "Content-Type": "a/b"})
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_headers_that_are_taken_arrive_as_they_are(
    call: Call, headers: dict[str, str]
) -> None:
    wrong = {name for name, _ in wrong_headers(headers)}
    good = {k: v for k, v in headers.items() if k not in wrong}
    headers = merged({"user-agent": "ours"}, good)
    with scripted(answering()) as server:
        assert call(server.url(), headers=headers).status_code == 200

    head = server.requests[0].partition(b"\r\n\r\n")[0].decode("ascii")
    sent = [f"{name}: {value}" for name, value in headers.items()]
    assert head.split("\r\n")[4:] == sent


@many
@given(JSON.filter(lambda value: value is not None))
def test_a_receiver_gets_the_json_that_was_posted(
    call: Call, value: Any
) -> None:
    posted = jsontext.loads(json.dumps({"body": value}).encode())
    body = encode_body(posted["body"], "POST", None)
    with scripted(answering()) as server:
        assert call(server.url(), body=body).status_code == 200

    received = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    # repr() tells 1 from 1.0 and True, and 0.0 from -0.0.
    assert repr(received) == repr(value)

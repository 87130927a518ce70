"""POST /timer: what is refused, and how that is said.

None of this may reach the pool of connections, nor store anything.
"""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.timers.models import Timer
from tests.support.api import GOOD, HOOK, create, post, refused

pytestmark = pytest.mark.django_db

NO_AMOUNTS = [
    "true", "false", "null", "1.5", "1.0", "0.0", "1e3", "-0.0", "1E400",
    "-1e400", '"5"', '""', "-1", "-9223372036854775809", "[]", "[5]", "{}",
    "9" * 5000, "-" + "9" * 5000,
]


@pytest.mark.parametrize("field", ["hours", "minutes", "seconds"])
@pytest.mark.parametrize("value", NO_AMOUNTS, ids=lambda value: value[:12])
def test_amounts_are_whole_numbers(field: str, value: str) -> None:
    body = json.dumps({**GOOD, field: "?"}).replace('"?"', value)
    answer = post(body)
    if value.startswith("99"):
        assert refused(answer) == {"hours", "minutes", "seconds"}
    else:
        assert refused(answer) == {field}
        assert "whole number" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (None, "string"),
        (5, "string"),
        ([HOOK], "string"),
        ("", "http://"),
        ("/hook", "http://"),
        ("ftp://example.com/", "http://"),
        ("http://", "host"),
        ("http:///hook", "host"),
        ("http://example.com:0/", "1 to 65535"),
        ("http://example.com:65536/", "1 to 65535"),
        ("http://example.com:/", "1 to 65535"),
        ("http://user:secret@example.com/", "user name"),
        ("http://example.com/a b", "%20"),
        ("http://example.com/\\", "%5C"),
        ("http://example.com/\n", "%0A"),
        ("http://example.com/\0", "%00"),
        ("http://example.com/\x7f", "%7F"),
        ("http://example.com/é", "%C3%A9"),
        ("http://example.com/\ud83d", "surrogate"),
        ("http://example.com/?q=\udc00", "%F0%9F%98%80"),
        ("http://\ud83d/", "surrogate"),
        ("http://example.com/" + "a" * 2030, "2,048"),
    ],
    ids=ascii,
)
def test_a_url_that_cannot_be_called_is_refused_with_the_remedy(
    url: Any, hint: str
) -> None:
    answer = create(url=url)
    assert refused(answer) == {"url"}
    assert hint in answer.json()["errors"][0]["message"]
    assert b"secret" not in answer.content


@pytest.mark.parametrize(
    "delivery", ["", "twice", "Once", "at-least-once", None, True, 1, ["once"]]
)
def test_a_delivery_that_is_none_is_refused_with_what_there_is(
    delivery: Any,
) -> None:
    answer = create(delivery=delivery)
    assert refused(answer) == {"delivery"}
    message = answer.json()["errors"][0]["message"]
    assert "'once' or 'at_least_once'" in message


def test_missing_and_unknown_fields_are_named() -> None:
    assert refused(post("{}")) == {"hours", "minutes", "seconds", "url"}
    assert refused(create(Seconds=1, delay=2)) == {"Seconds", "delay"}
    assert refused(create(hours=None, secs=1)) == {"hours", "secs"}
    assert refused(create(**{"": 1})) == {""}
    message = create(delay=1).json()["errors"][0]["message"]
    assert "hours, minutes, seconds, url, delivery" in message


def test_a_field_name_that_no_text_can_hold_is_refused() -> None:
    answer = create(**{"\ud800": 1})
    assert refused(answer) == {"body"}
    assert "surrogate" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" ", "Expecting value"),
        (b"seconds=5", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'{"seconds": 5,}', ""),
        (b'{"seconds": NaN}', "NaN"),
        (b'{"seconds": -Infinity}', "-Infinity"),
        (b'{"seconds": 05}', "delimiter"),
        (b'{"seconds": 1, "seconds": 2}', "'seconds' stands twice"),
        (b'{"x": {"a": 1, "a": 2}}', "'a' stands twice"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "stands twice"),
        (b'\xef\xbb\xbf{"seconds": 5}', "BOM"),
        (b'{"url": "\xff"}', "not UTF-8"),
        (b'{"url": "\xed\xa0\x80"}', "not UTF-8"),
        ('{"seconds": 5}'.encode("utf-16"), "not UTF-8"),
        (b'{"url": "\x00"}', "control character"),
        (b"{} {}", "Extra data"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_not_json_is_400_and_says_where(
    body: bytes, reason: str
) -> None:
    answer = post(body)
    assert answer.status_code == 400, answer.content
    error = answer.json()
    assert reason in error["detail"]
    assert error["errors"] == []
    assert not Timer.objects.exists()


@pytest.mark.parametrize(
    "body", ["[" * 60_000, '{"a":' * 10_000 + "1" + "}" * 10_000],
    ids=["open", "closed"],
)
def test_deep_nesting_is_the_sender_s_mistake(body: str) -> None:
    """How deep Python's parser goes differs from version to version."""
    answer = post(body)
    assert answer.status_code in (400, 422)
    try:
        json.loads(body)
    except RecursionError:
        assert "nested too deeply" in answer.json()["detail"]
    except ValueError:
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "body", ["[]", "null", "5", "0", '""', "false", "true", '"text"', "[1]"]
)
def test_json_that_is_no_object_is_422(body: str) -> None:
    assert refused(post(body)) == {"body"}


@pytest.mark.parametrize("length", ["65537", "9" * 30])
def test_a_body_over_64_kib_is_refused_by_its_length(length: str) -> None:
    answer = post(json.dumps(GOOD), **{"Content-Length": length})
    assert answer.status_code == 413
    assert "65536" in answer.json()["detail"]


def test_a_length_that_is_none_is_400() -> None:
    for length in ("-1", "1.5", "ten", "+5", "١"):
        answer = post(json.dumps(GOOD), **{"Content-Length": length})
        assert answer.status_code == 400
        assert "Content-Length" in answer.json()["detail"]


def test_a_chunked_body_is_411() -> None:
    answer = post(json.dumps(GOOD), **{"Transfer-Encoding": "chunked"})
    assert answer.status_code == 411
    assert "Content-Length" in answer.json()["detail"]


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_answered_with_a_4xx(body: bytes) -> None:
    answer = post(body)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"detail", "errors"}

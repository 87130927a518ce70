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
        hint = "is required" if value == "null" else "whole number"
        assert hint in answer.json()["errors"][0]["message"]


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


RETRY = {"max_attempts": 5}
WHOLE = "whole number, "


@pytest.mark.parametrize(
    ("changes", "field", "hint"),
    [
        *(({"method": method}, "method", "'GET', 'POST'")
          for method in ("get", "HEAD", "CONNECT", "", None, 1, ["GET"])),
        *(({"headers": headers}, "headers", "an object")
          for headers in ([], "", 1, 1.5, True, [["a", "b"]])),
        ({"headers": {"X-A": 1}}, "headers.X-A", "string"),
        ({"headers": {"Host": "x"}}, "headers.Host", "leave it out"),
        ({"headers": {"\ud800": "x"}}, "headers", "name '\\ud800'"),
        ({"headers": {str(n): "" for n in range(70)}}, "headers", "64"),
        ({"body": 1, "method": "GET"}, "body", "POST, PUT or PATCH"),
        ({"headers": {"Content-Type": "a/b"}}, "body", "a/b"),
        ({"headers": {"Content-Type": "a/b"}, "body": 1.5}, "body", "string"),
        ({"body": "x" * 65_535}, "body", "65,537"),
        ({"body": ["\ud83d"]}, "body", "surrogate"),
        *(({"retry": retry}, "retry", "an object")
          for retry in (["x"], "", 5, 1.5, True)),
        ({"retry": {}}, "retry.max_attempts", "required"),
        *(({"retry": {"max_attempts": wrong}}, "retry.max_attempts",
           WHOLE + "2 to 30")
          for wrong in (None, "5", 1, 31, 2.0, True, 10**400, -5)),
        *(({"retry": {**RETRY, "min_delay": wrong}}, "retry.min_delay",
           WHOLE + "1 to 86,400")
          for wrong in (None, 0, 86_401, 1.5)),
        ({"retry": {**RETRY, "max_delay": 0}}, "retry.max_delay", WHOLE),
        ({"retry": {**RETRY, "min_delay": 9, "max_delay": 8}},
         "retry.max_delay", "9, or more"),
        ({"retry": {**RETRY, "min_delay": 3601}}, "retry.max_delay", "left"),
        ({"retry": {**RETRY, "x": 1}}, "retry.x", "max_attempts, min_delay"),
        ({"retry": {**RETRY, "\ud800": 1}}, "retry", "surrogate"),
        *(({"retry": {**RETRY, "on": wrong}}, "retry.on", hint)
          for wrong, hint in (
              ("status", "list"), ([], "left out"),
              (["no_answer"], "left out"), (["status"] * 2, "left out"),
              (["status", "no_answer"], '"delivery": "at_least_once"'))),
        ({"retry": {**RETRY, "on": ["status", 1]}}, "retry.on.1",
         "'no_answer'"),
        *(({"max_lateness": wrong}, "max_lateness", WHOLE + "1 to 31,536,000")
          for wrong in (0, -1, 1.0, "5", False, 31_536_001, 10**30)),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused_with_the_remedy(
    changes: dict[str, Any], field: str, hint: str
) -> None:
    answer = create(**changes)
    assert refused(answer) == {field}
    (error,) = answer.json()["errors"]
    assert hint in error["message"]


def test_an_answer_is_bounded_whatever_is_wrong() -> None:
    answer = create(**{f"x{number}": 1 for number in range(10_000)})
    assert len(refused(answer)) == 20


@pytest.mark.parametrize("depth", [100, 400, 900, 5000, 50_000, 200_000])
def test_a_body_nested_at_any_depth_is_taken_or_refused(depth: int) -> None:
    body = json.dumps({**GOOD, "body": "?", "x": 1})
    answer = post(body.replace('"?"', "[" * depth + "]" * depth))
    if answer.status_code == 400:
        assert "nested too deeply" in answer.json()["detail"]
    else:
        assert refused(answer) in ({"x"}, {"x", "body"})


def test_missing_and_unknown_fields_are_named() -> None:
    assert refused(post("{}")) == {"hours", "minutes", "seconds", "url"}
    assert refused(create(Seconds=1, delay=2)) == {"Seconds", "delay"}
    assert refused(create(hours=None, secs=1)) == {"hours", "secs"}
    assert refused(create(**{"": 1})) == {""}
    message = create(delay=1).json()["errors"][0]["message"]
    assert "hours, minutes, seconds, window, url, delivery" in message


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
    "body",
    ["[]", "null", "5", "0", "1.5", "1e400", "9" * 30, '""', "false", "true",
     '"text"', "[1]"],
)
def test_json_that_is_no_object_is_422(body: str) -> None:
    assert refused(post(body)) == {"body"}


@pytest.mark.parametrize("length", ["524289", "9" * 30])
def test_a_body_over_512_kib_is_refused_by_its_length(length: str) -> None:
    answer = post(json.dumps(GOOD), **{"Content-Length": length})
    assert answer.status_code == 413
    assert "524288" in answer.json()["detail"]


def test_a_length_that_is_none_is_400() -> None:
    for length in ("-1", "1.5", "ten", "+5", "١"):
        answer = post(json.dumps(GOOD), **{"Content-Length": length})
        assert answer.status_code == 400
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

"""POST /timer: what is taken, what is refused, and how that is said."""

import json
import re
import string
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from apps.timers.models import Timer
from apps.webhooks.target import InvalidURL, parse_target
from tests.support.rows import row

YEAR = 365 * 86_400
HOOK = "https://example.com/hook"
GOOD: dict[str, Any] = {"hours": 0, "minutes": 0, "seconds": 5, "url": HOOK}


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def post(body: bytes | str, **headers: str) -> Any:
    client = Client(raise_request_exception=False)
    return client.post(
        "/timer", body, content_type="application/json", headers=headers
    )


def create(**changes: Any) -> Any:
    return post(json.dumps({**GOOD, **changes}))


def refused(answer: Any) -> set[str]:
    """Return the fields that a 422 names, in the shape of every error."""
    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/json"
    error = answer.json()
    assert set(error) == {"detail", "errors"}
    for each in error["errors"]:
        assert set(each) == {"field", "message"}
        assert each["field"] in error["detail"]
    assert not Timer.objects.exists()
    return {each["field"] for each in error["errors"]}


def test_a_timer_is_stored_and_can_be_looked_at() -> None:
    # Given a request with every unit above 59
    before = datetime.now(UTC)
    answer = create(hours=25, minutes=61, seconds=61)

    # Then the answer says which timer, where, and how long it will take
    assert answer.status_code == 201
    created = answer.json()
    total = 25 * 3600 + 61 * 60 + 61
    assert set(created) == {"id", "time_left"}
    assert created["time_left"] == total
    assert answer["Location"] == f"/timer/{created['id']}"
    assert UUID(created["id"]).version == 7
    assert int(answer["Content-Length"]) == len(answer.content)

    # And it is what GET shows
    found = Client().get(answer["Location"]).json()
    fire_at = datetime.fromisoformat(found.pop("fire_at"))
    created_at = datetime.fromisoformat(found.pop("created_at"))
    assert fire_at - created_at == timedelta(seconds=total)
    assert abs(created_at - before) < timedelta(seconds=5)
    assert found.pop("time_left") in (total, total - 1)
    assert found == {
        "id": created["id"], "status": "scheduled", "url": HOOK,
        "fired_at": None, "late_ms": None, "status_code": None, "error": None,
    }
    assert row(UUID(created["id"]))["queued_at"] is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"hours": 0, "minutes": 0, "seconds": 0}, 201),
        ({"seconds": YEAR}, 201),
        ({"seconds": YEAR + 1}, 422),
        ({"hours": 365 * 24, "seconds": 0}, 201),
        ({"hours": 365 * 24, "minutes": 0, "seconds": 1}, 422),
        ({"hours": 365 * 24 - 1, "minutes": 59, "seconds": 60}, 201),
        ({"hours": 365 * 24 - 1, "minutes": 60, "seconds": 1}, 422),
    ],
)
def test_the_sum_decides_how_far_a_timer_may_be(
    changes: dict[str, int], status: int
) -> None:
    answer = create(**changes)
    assert answer.status_code == status
    if status == 422:
        assert refused(answer) == {"hours", "minutes", "seconds"}
        message = answer.json()["errors"][0]["message"]
        assert "365 days" in message
        assert "MAX_TIMER_DAYS" in message


def test_how_far_is_a_setting(settings: Settings) -> None:
    settings.MAX_TIMER_DAYS = 1
    assert create(seconds=86_400).status_code == 201
    assert "1 days" in create(seconds=86_401).json()["errors"][0]["message"]


NO_AMOUNTS = [
    "true", "false", "null", "1.5", "1.0", "0.0", "1e3", "-0.0", "1E400",
    "-1e400", '"5"', '""', "-1", "-9223372036854775809", "[]", "[5]", "{}",
    "9" * 5000, "-" + "9" * 5000,
]


@pytest.mark.parametrize("field", ["hours", "minutes", "seconds"])
@pytest.mark.parametrize("value", NO_AMOUNTS, ids=lambda value: value[:12])
def test_amounts_are_whole_numbers(field: str, value: str) -> None:
    body = json.dumps({**GOOD, field: "?"}).replace('"?"', value)
    found = refused(post(body))
    assert field in found
    assert found == {field} or value.startswith("99")


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
    "url",
    [
        "http://example.com",
        "HTTPS://EXAMPLE.com:8443/a%2fb/../c?x=|[]{}&y=%zz#fragment",
        "http://[2001:db8::1]:80/?",
        "http://192.0.2.1?query",
        "http://münchen.example/",
        "http://example.com/" + "a" * 2029,
    ],
)
def test_a_url_is_kept_as_given(url: str) -> None:
    answer = create(url=url)
    assert answer.status_code == 201, answer.content
    assert Client().get(answer["Location"]).json()["url"] == url


def test_missing_and_unknown_fields_are_named() -> None:
    assert refused(post("{}")) == {"hours", "minutes", "seconds", "url"}
    assert refused(create(Seconds=1, delay=2)) == {"Seconds", "delay"}
    assert refused(create(hours=None, secs=1)) == {"hours", "secs"}
    assert refused(create(**{"": 1})) == {""}
    message = create(delay=1).json()["errors"][0]["message"]
    assert "hours, minutes, seconds, url" in message


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
        (b"[" * 60_000, ""),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, ""),
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
    "body", ["[]", "null", "5", "0", '""', "false", "true", '"text"', "[1]"]
)
def test_json_that_is_no_object_is_422(body: str) -> None:
    assert refused(post(body)) == {"body"}


def test_the_content_type_is_not_looked_at() -> None:
    """With -d, curl says that JSON is a form."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "x"):
        answer = Client().post("/timer", json.dumps(GOOD), content_type=kind)
        assert answer.status_code == 201


@pytest.mark.parametrize("length", ["65537", "9" * 30])
def test_a_body_over_64_kib_is_refused_by_its_length(length: str) -> None:
    answer = post(json.dumps(GOOD), **{"Content-Length": length})
    assert answer.status_code == 413
    assert "65536" in answer.json()["detail"]


def test_a_body_of_64_kib_is_read() -> None:
    body = json.dumps(GOOD)
    assert post(body + " " * (65_536 - len(body))).status_code == 201
    assert post(body + " " * (65_537 - len(body))).status_code == 413


def test_a_length_that_is_none_is_400() -> None:
    for length in ("-1", "1.5", "ten", "+5", "١"):
        answer = post(json.dumps(GOOD), **{"Content-Length": length})
        assert answer.status_code == 400
        assert "Content-Length" in answer.json()["detail"]


def test_a_chunked_body_is_411() -> None:
    answer = post(json.dumps(GOOD), **{"Transfer-Encoding": "chunked"})
    assert answer.status_code == 411
    assert "Content-Length" in answer.json()["detail"]


# --- any JSON at all ------------------------------------------------------

SURROGATES = st.characters(categories=["Cs", "L", "N", "P", "Cc"])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-5, 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(SURROGATES, max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(SURROGATES, max_size=8), inner, max_size=3),
    max_leaves=6,
)
AMOUNTS = st.integers(0, 70) | st.integers(-1, YEAR + 10) | JSON_VALUES
URLS = (
    st.builds(
        "{}://{}{}".format,
        st.sampled_from(["http", "https", "HTTP", "ftp"]),
        st.text(string.ascii_letters + ".-[]:@1é\ud800", max_size=12),
        st.text(SURROGATES, max_size=12).map(lambda text: "/" + text),
    )
    | st.just(HOOK)
    | JSON_VALUES
)
BODIES = st.fixed_dictionaries(
    {}, optional={"hours": AMOUNTS, "minutes": AMOUNTS, "seconds": AMOUNTS,
                  "url": URLS}
) | st.fixed_dictionaries(
    {"hours": AMOUNTS, "minutes": AMOUNTS, "seconds": AMOUNTS, "url": URLS},
    optional={"other": JSON_VALUES},
)


def is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def is_url(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse_target(value)
    except InvalidURL:
        return False
    return True


def wrong_fields(body: Any) -> set[str]:
    """Return what the rules refuse, said once more and independently."""
    if not isinstance(body, dict):
        return {"body"}
    if any(re.search("[\ud800-\udfff]", name) for name in body):
        return {"body"}
    amounts = ("hours", "minutes", "seconds")
    wrong = set(body) - set(GOOD) | set(GOOD) - set(body)
    wrong |= {key for key in amounts if not is_whole(body.get(key))}
    wrong |= set() if is_url(body.get("url")) else {"url"}
    if not wrong:
        hours, minutes, seconds = (body[key] for key in amounts)
        if hours * 3600 + minutes * 60 + seconds > YEAR:
            return set(amounts)
    return wrong


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(body={**GOOD, "\ud800": 1})
@example(body={**GOOD, "seconds": 10**18})
@example(body={**GOOD, "seconds": 10**400})
@given(body=BODIES | JSON_VALUES)
def test_any_json_is_201_if_the_rules_hold_and_else_names_what_is_wrong(
    body: Any,
) -> None:
    answer = post(json.dumps(body))
    wrong = wrong_fields(body)
    if wrong:
        assert refused(answer) == wrong
    else:
        assert answer.status_code == 201, answer.content
        stored = Timer.objects.get(id=answer.json()["id"])
        assert stored.url == body["url"]
        total = answer.json()["time_left"]
        assert stored.due_at - stored.created_at == timedelta(seconds=total)
        stored.delete()


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

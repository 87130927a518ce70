"""POST /timer: what is taken, and what becomes of any JSON at all."""

import json
import re
import string
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from apps.timers.api.schemas import TimerIn
from apps.timers.models import Timer
from apps.webhooks.guard import Guard, Refused
from apps.webhooks.target import InvalidURL, parse_target
from tests.support.api import GOOD, HOOK, create, post, refused
from tests.support.rows import row

YEAR = 365 * 86_400
#: Fields of which the rules below know nothing.
OTHERS = TimerIn.model_fields.keys() - GOOD.keys()


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


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
    assert datetime.fromisoformat(found.pop("next_at")) == fire_at
    created_at = datetime.fromisoformat(found.pop("created_at"))
    assert fire_at - created_at == timedelta(seconds=total)
    assert abs(created_at - before) < timedelta(seconds=5)
    assert found.pop("time_left") in (total, total - 1)
    assert found == {
        "id": created["id"], "status": "scheduled", "url": HOOK,
        "method": "POST", "delivery": "once", "retry": None,
        "max_lateness": None, "fired_at": None, "attempts": 0,
        "late_ms": None, "status_code": None, "error": None, "key": None,
        "labels": None,
    }
    assert row(UUID(created["id"]))["queued_at"] is None


@pytest.mark.parametrize("delivery", ["once", "at_least_once"])
def test_a_timer_says_how_it_is_delivered(delivery: str) -> None:
    answer = create(delivery=delivery)
    assert answer.status_code == 201
    assert Client().get(answer["Location"]).json()["delivery"] == delivery
    stored = row(UUID(answer.json()["id"]))
    assert stored["at_least_once"] == (delivery == "at_least_once")


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


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTPS://EXAMPLE.com:8443/a%2fb/../c?x=|[]{}&y=%zz#fragment",
        "http://[2606:4700::1]:80/?",
        "http://8.8.8.8?query",
        "http://münchen.example.com/",
        "http://example.com/" + "a" * 2029,
    ],
)
def test_a_url_is_kept_as_given(url: str) -> None:
    answer = create(url=url)
    assert answer.status_code == 201, answer.content
    assert Client().get(answer["Location"]).json()["url"] == url


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:9/", "127.0.0.0/8"),
        ("http://localhost:9/", "127.0.0.0/8"),
        ("http://[::1]:9/", "::1/128"),
        ("http://receiver:8080/hello", "172.16.0.0/12"),
        ("http://192.168.0.1/", "192.168.0.0/16"),
        ("http://a.svc.cluster.local/", "10.0.0.0/8"),
    ],
)
def test_a_url_of_an_allowed_network_is_taken(
    url: str, allowed: str, settings: Settings
) -> None:
    message = create(url=url).json()["errors"][0]["message"]
    assert "WEBHOOK_ALLOWED_NETWORKS" in message

    settings.WEBHOOK_ALLOWED_NETWORKS = (ip_network(allowed),)
    assert create(url=url).status_code == 201


def test_the_content_type_is_not_looked_at() -> None:
    """With -d, curl says that JSON is a form."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "x"):
        answer = Client().post("/timer", json.dumps(GOOD), content_type=kind)
        assert answer.status_code == 201


def test_a_request_of_512_kib_is_read() -> None:
    body = json.dumps(GOOD)
    assert post(body + " " * (524_288 - len(body))).status_code == 201
    assert post(body + " " * (524_289 - len(body))).status_code == 413


def test_a_body_of_64_kib_may_come_six_times_as_long() -> None:
    body = json.dumps({**GOOD, "body": "?"}).replace("?", "\\u0061" * 65_534)
    timer = post(body).json()["id"]
    assert bytes(row(UUID(timer))["body"]) == b'"' + b"a" * 65_534 + b'"'


# --- what is sent, and when again ------------------------------------------

EXACT = (
    '{"b":[1.10,-0.0,-0,1e400,0.1234567890123456789,9007199254740993,'
    + "9" * 5000
    + '],"a":{"\\u0000":"é😀","":null}}'
)


def test_json_is_not_changed_on_its_way() -> None:
    body = json.dumps({**GOOD, "body": "?"}).replace('"?"', EXACT)
    timer = post(body).json()["id"]
    assert bytes(row(UUID(timer))["body"]).decode() == EXACT


DEFAULTS: dict[str, Any] = {
    "method": "POST", "headers": None, "body": None, "retry": None,
    "max_lateness": None,
}
ONCE = {"max_attempts": 3, "min_delay": 10, "max_delay": 3600,
        "unanswered": False}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {}),
        ({"method": "POST", **dict.fromkeys(
            ["headers", "body", "retry", "max_lateness"])}, {}),
        ({"method": "DELETE", "headers": {}}, {"method": "DELETE"}),
        ({"method": "GET", "headers": {"X-Key": "a  b", "x": ""}},
         {"method": "GET", "headers": {"X-Key": "a  b", "x": ""}}),
        ({"method": "PUT", "body": {"a": 1.0}},
         {"method": "PUT", "body": b'{"a":1.0}'}),
        ({"method": "PATCH", "body": ""},
         {"method": "PATCH", "body": b'""'}),
        ({"headers": {"Content-Type": "text/plain"}, "body": ""},
         {"headers": {"Content-Type": "text/plain"}, "body": b""}),
        ({"body": False}, {"body": b"false"}),
        ({"retry": {"max_attempts": 3}}, {"retry": ONCE}),
        ({"retry": {"max_attempts": 3, "on": ["status"]}}, {"retry": ONCE}),
        ({"retry": {"max_attempts": 3}, "delivery": "at_least_once"},
         {"retry": {**ONCE, "unanswered": True}}),
        ({"retry": {"max_attempts": 3, "on": None},
          "delivery": "at_least_once"},
         {"retry": {**ONCE, "unanswered": True}}),
        ({"retry": {"max_attempts": 3, "on": ["no_answer", "status"]},
          "delivery": "at_least_once"},
         {"retry": {**ONCE, "unanswered": True}}),
        ({"retry": {"max_attempts": 3, "on": ["status"]},
          "delivery": "at_least_once"}, {"retry": ONCE}),
        ({"retry": {"max_attempts": 30, "min_delay": 86_400,
                    "max_delay": 86_400}},
         {"retry": {"max_attempts": 30, "min_delay": 86_400,
                    "max_delay": 86_400, "unanswered": False}}),
        ({"retry": {"max_attempts": 2, "min_delay": 1, "max_delay": 1}},
         {"retry": {"max_attempts": 2, "min_delay": 1, "max_delay": 1,
                    "unanswered": False}}),
        ({"max_lateness": 1}, {"max_lateness": timedelta(seconds=1)}),
        ({"max_lateness": YEAR}, {"max_lateness": timedelta(days=365)}),
    ],
    ids=repr,
)  # fmt: skip
def test_what_a_timer_asks_for_is_stored(
    given: dict[str, Any], stored: dict[str, Any]
) -> None:
    answer = create(**given)
    assert answer.status_code == 201, answer.content
    found = row(UUID(answer.json()["id"]))
    if found["body"] is not None:
        found["body"] = bytes(found["body"])
    assert {key: found[key] for key in DEFAULTS} == {**DEFAULTS, **stored}


# --- any JSON at all ------------------------------------------------------

SURROGATES = st.characters(categories=["Cs", "L", "N", "P", "Cc"])
# What may be left out has rules that wrong_fields() does not know, and random
# text hits on its names.
NAMES = st.text(SURROGATES, max_size=8).filter(
    lambda name: name not in {"delivery", *DEFAULTS}
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-5, 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(SURROGATES, max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(NAMES, inner, max_size=3),
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
        Guard(()).check_host(parse_target(value).host)
    except (InvalidURL, Refused):
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
    assume(not isinstance(body, dict) or OTHERS.isdisjoint(body))
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

"""POST /timer with fire_at, timezone and window."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from pytest_django import Settings

from tests.support.api import HOOK, create, look, post, refused
from tests.support.rows import row


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def at(fire_at: object, **fields: Any) -> Any:
    return post(json.dumps({"url": HOOK, "fire_at": fire_at, **fields}))


def soon(**distance: float) -> datetime:
    return datetime.now(UTC) + timedelta(**distance)


def test_a_moment_with_an_offset_is_when_it_fires() -> None:
    moment = soon(days=40).astimezone().replace(microsecond=123_000)
    answer = at(moment.isoformat())
    assert answer.status_code == 201
    found = look(f"/timer/{answer.json()['id']}").json()
    assert datetime.fromisoformat(found["fire_at"]) == moment
    assert datetime.fromisoformat(found["next_at"]) == moment
    left = (moment - datetime.now(UTC)).total_seconds()
    assert abs(answer.json()["time_left"] - left) < 2


def test_a_local_time_is_read_in_its_time_zone() -> None:
    year = datetime.now(UTC).year
    answer = at(f"{year + 1}-01-05T12:00:00", timezone="Asia/Tokyo")
    stored = row(UUID(answer.json()["id"]))
    assert stored["due_at"] == datetime(year + 1, 1, 5, 3, tzinfo=UTC)


def test_what_has_just_passed_fires_at_once() -> None:
    answer = at(soon(minutes=-4.9).isoformat())
    assert answer.json()["time_left"] == 0
    assert look(f"/timer/{answer.json()['id']}").json()["time_left"] == 0


@pytest.mark.parametrize(
    ("fields", "field", "hint"),
    [
        ({"fire_at": soon(minutes=-6).isoformat()}, "fire_at",
         "ago; it may be 5 minutes ago at most"),
        ({"fire_at": soon(days=366).isoformat()}, "fire_at", "365 days"),
        ({"fire_at": "2027-01-01T00:00:00"}, "fire_at", "timezone"),
        ({"fire_at": 5}, "fire_at", "string"),
        ({"fire_at": "soon"}, "fire_at", "must"),
        ({"fire_at": soon(days=1).isoformat(), "timezone": "Asia/Tokyo"},
         "fire_at", "timezone"),
        ({"fire_at": "2027-01-01T00:00:00", "timezone": "Moon/Base"},
         "timezone", "Europe/Berlin"),
        ({"fire_at": soon(days=1).isoformat(), "hours": 1}, "hours",
         "one of the two"),
        ({"hours": 1, "minutes": 1}, "seconds", "is required"),
        ({"hours": 0, "minutes": 0, "seconds": 1, "timezone": "Asia/Tokyo"},
         "timezone", "fire_at"),
        *(({"fire_at": soon(days=1).isoformat(), "window": wrong}, "window",
           "1 to 86,400") for wrong in (0, -1, 1.5, "5", True, 86_401)),
    ],
)
def test_a_time_that_is_none_is_refused_with_the_remedy(
    fields: dict[str, Any], field: str, hint: str
) -> None:
    answer = post(json.dumps({"url": HOOK, **fields}))
    assert refused(answer) == {field}
    assert hint in answer.json()["errors"][0]["message"]


def test_timers_of_one_window_are_spread_over_it() -> None:
    # Given 40 timers at one moment, with a window of 100 s
    moment = soon(hours=1).replace(microsecond=0)
    found = []
    for _ in range(40):
        answer = at(moment.isoformat(), window=100)
        fire_at = look(f"/timer/{answer.json()['id']}").json()["fire_at"]
        found.append((datetime.fromisoformat(fire_at) - moment).seconds)

    # Then each quarter of the window has about ten of them
    quarters = [sum(q * 25 <= s < (q + 1) * 25 for s in found)
                for q in range(4)]
    assert sum(quarters) == 40
    assert min(quarters) >= 8


def test_a_delay_may_have_a_window() -> None:
    answer = create(window=86_400)
    stored = row(UUID(answer.json()["id"]))
    delay = stored["due_at"] - stored["created_at"]
    assert timedelta(seconds=5) <= delay <= timedelta(days=1, seconds=5)
    left = answer.json()["time_left"]
    assert 0 <= left - delay.total_seconds() < 1


def test_head_and_get_show_an_etag() -> None:
    timer_id = create().json()["id"]
    client = Client()
    assert client.get(f"/timer/{timer_id}")["ETag"] == '"1"'
    assert client.head(f"/timer/{timer_id}")["ETag"] == '"1"'

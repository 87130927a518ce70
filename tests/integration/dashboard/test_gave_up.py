"""The page Gave up, and the dot that says on every page how all is."""

import html
import re
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from apps.dashboard import gave_up
from apps.dashboard.health import Health, _fresh, words
from apps.monitoring.api import Readiness
from apps.timers.models import Timer
from tests.support.rows import change, new_timer

PATH = "/dashboard/gave-up"


@pytest.fixture(autouse=True)
def _standalone(db_pool: None, settings: Settings) -> None:
    settings.RABBITMQ_URL = ""
    _fresh.forget()


def fail(host: str, seconds: float, outcome: str, **columns: str) -> None:
    timer = new_timer(seconds, url=f"http://{host}/x")
    values = {"outcome": f"'{outcome}'", "attempts": "1", **columns}
    change(timer, ", ".join(f"{k} = {v}" for k, v in values.items()))


def groups(text: str) -> list[str]:
    found = re.findall(r'<h2 id="group-\d+">(.*?)</h2>', text)
    return [html.unescape(re.sub("<[^>]+>", "", each)) for each in found]


def page() -> str:
    answer = Client().get(PATH)
    assert answer.status_code == 200
    return answer.content.decode()


def replay(kind: str, host: str) -> Any:
    return Client().post(f"{PATH}/replay", {"kind": kind, "host": host})


def some() -> None:
    """Store timers of three groups, and one that is of none."""
    refused = {"error": "'refused: <b>'"}
    for seconds in (-10, -30, -20):
        fail("b.example", seconds, "failed", **refused)
    fail("a.example", -5, "failed", **refused)
    for seconds in (-1, -2):
        fail("a.example", seconds, "failed", status_code="503")
    fail("a.example", -3, "unknown")
    fail("a.example", -4, "delivered", status_code="200")


def test_timers_that_failed_alike_are_a_group() -> None:
    assert "No timer gave up" in page()
    some()
    text = page()
    assert groups(text) == [
        "3 × refused at b.example", "2 × answered 503 at a.example",
        "1 × unknown at a.example", "1 × refused at a.example",
    ]
    said = html.unescape(re.sub("<[^>]+>", "", text))
    assert "7 timers gave up, 3 of them at b.example: refused." in said
    assert "refused: &lt;b&gt;" in text
    assert "Replay 2 timers" in text


def test_a_group_is_replayed_and_no_other() -> None:
    some()
    answer = replay("refused", "b.example")
    assert answer["Location"] == f"{PATH}?replayed=3&of=3"
    waiting = Timer.objects.filter(outcome=None)
    assert [each.host for each in waiting] == ["b.example"] * 3
    assert "3 × " not in page()
    answer = replay("refused", "elsewhere")
    assert answer["Location"] == f"{PATH}?replayed=0&of=0"
    text = Client().get(f"{PATH}?replayed=2&of=3").content.decode()
    assert "2 of 3 timers are called again" in text
    text = Client().get(f"{PATH}?replayed=all&of=3").content.decode()
    assert "are called again" not in text


def test_only_the_latest_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gave_up, "MOST", 2)
    some()
    text = page()
    assert groups(text) == ["2 × answered 503 at a.example"]
    assert "Of the latest" in text


def test_only_the_largest_groups_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gave_up, "_SHOWN", 3)
    some()
    text = page()
    assert len(groups(text)) == 3
    assert "There is 1 smaller group." in text


@pytest.mark.parametrize(
    ("found", "colour", "said"),
    [
        (Readiness(postgres="ok", rabbitmq="ok"), "ok", "all is well"),
        (Readiness(postgres="ok", rabbitmq="not used"), "ok", "well"),
        (Readiness(postgres="ok", rabbitmq="away"), "warn", "RabbitMQ"),
        (
            Readiness(postgres="ok", rabbitmq="ok", troubles=["a", "b"]),
            "warn", "a; b",
        ),
        (Readiness(postgres="away", rabbitmq="ok"), "bad", "Postgres is away"),
        (Readiness(postgres="unfit", rabbitmq="ok"), "bad", "unfit"),
    ],
)
def test_the_dot_says_how_all_is(
    found: Readiness, colour: str, said: str
) -> None:
    assert words(found).colour == colour
    assert said in words(found).words


def test_the_dot_is_on_every_page() -> None:
    told = words(Readiness(postgres="ok", rabbitmq="not used"))
    assert told == Health("ok", "all is well")
    assert f'title="{told.words}"' in page()

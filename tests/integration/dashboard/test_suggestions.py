"""What the form of the page Timers suggests: own values, and only a few."""

import html
import re
from datetime import timedelta

import pytest
from django.test import Client
from pytest_django import Settings

from apps.timers import services
from apps.timers.storage import naming
from apps.timers.storage.records import Definition, NamedTimer
from tests.support.accounts import OWNER, account

EVIL = "<script>\"'&\u202e"


@pytest.fixture(autouse=True)
def _standalone(db_pool: None, settings: Settings) -> None:
    settings.RABBITMQ_URL = ""


def store(
    host: str, key: str | None = None, of: int = OWNER, **labels: str
) -> None:
    definition = Definition(f"http://{host}/", labels=labels)
    timer = services.new_timer(of, definition, timedelta(seconds=60))
    naming.create([NamedTimer(timer, key=key)])


def options(text: str) -> list[str]:
    return [
        html.unescape(each) for each in re.findall('<option value="(.*?)"',
                                                   text)
    ]


def suggested(field: str, beginning: str = "") -> list[str]:
    answer = Client().get(
        f"/dashboard/timers/suggest/{field}", {field: beginning}
    )
    assert answer.status_code == 200
    return options(answer.content.decode())


def test_each_value_is_suggested_once_in_order() -> None:
    for number in range(4):
        store(f"b{number % 2}.example", f"order-{number}", user=str(number))
        store("a.example", f"job-{number}", size="1", user="17")
    assert suggested("host") == ["a.example", "b0.example", "b1.example"]
    assert suggested("host", "b") == ["b0.example", "b1.example"]
    assert suggested("key", "order-") == [f"order-{n}" for n in range(4)]
    assert suggested("label") == ["size:", "user:"]
    assert suggested("label", "us") == ["user:"]
    assert suggested("label", "user:") == [
        "user:0", "user:1", "user:17", "user:2", "user:3",
    ]
    assert suggested("label", "user:1") == ["user:1", "user:17"]
    text = Client().get("/dashboard/timers").content.decode()
    assert options(text)[:3] == ["a.example", "b0.example", "b1.example"]


def test_only_a_few_are_suggested() -> None:
    for number in range(25):
        store(f"h{number:02}.example")
    assert len(suggested("host")) == 20
    assert suggested("host", "h2") == [f"h{n}.example" for n in range(20, 25)]


def test_only_own_values_are_suggested() -> None:
    other = account("other")
    store("other.example", "other", other, other="1")
    for field in ("host", "key", "label"):
        assert suggested(field) == []
    assert suggested("label", "other:") == []


def test_odd_values_are_escaped() -> None:
    store("a.example", EVIL, user=EVIL)
    assert suggested("key", "<") == [EVIL]
    assert suggested("label", "user:") == [f"user:{EVIL}"]
    assert suggested("host", "\0") == ["a.example"]
    text = Client().get("/dashboard/timers").content.decode()
    assert EVIL in options(text)
    assert EVIL not in text


def test_there_is_no_other_field() -> None:
    client = Client(raise_request_exception=False)
    assert client.get("/dashboard/timers/suggest/url").status_code == 404

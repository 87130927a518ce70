"""The page Now: its numbers are Postgres's, and it asks seldom."""

import re
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from pytest_django import Settings

from apps.core.database import Connection
from apps.dashboard import now, numbers
from apps.dashboard.fresh import Part
from apps.monitoring import processes
from apps.monitoring.heartbeat import Sign
from apps.timers.storage import ahead, overview
from tests.support.accounts import account
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rows import change, database_clock, new_timer, new_timers
from tests.support.timers import execute
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _fresh(db_pool: None, settings: Settings) -> None:
    settings.RABBITMQ_URL = ""
    forget()


def forget() -> None:
    """Have the page read everything anew."""
    for values in now.asleep, now.fresh, numbers.fresh:
        values.forget()


def page(path: str = "/", status: int = 200, **headers: str) -> str:
    forget()
    answer = Client().get(path, headers=headers)
    assert answer.status_code == status
    return answer.content.decode()


def figures(text: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", text))


def time_left(timer: UUID) -> int:
    """Return the whole seconds that a timer has left."""
    return int(Client().get(f"/timer/{timer}").json()["time_left"])


def ended(seconds: float, outcome: str, **options: Any) -> None:
    """Store a timer that ended; it was due so many seconds from now."""
    timer = new_timer(seconds, **options)
    change(
        timer,
        f"outcome = '{outcome}', fired_at = due_at,"
        " sent_at = due_at + interval '0.6 ms'",
    )


def test_an_empty_service_says_what_would_be_here() -> None:
    text = page()
    assert "No timer waits" in text
    assert "No timer was called yet" in text
    assert set(figures(text).values()) == {"0", "0.0"}
    assert "/inbox" not in text


def test_the_figures_are_those_of_the_rows() -> None:
    new_timers(3, 30)
    new_timers(2, 30, queued=True)
    new_timers(4, 3600)
    new_timers(3, 3600, queued=True)
    new_timers(6, -5)
    change(new_timer(-5), "fired_at = now(), leased_until = now()")
    for outcome in ("failed", "unknown", "missed", "delivered", "cancelled"):
        ended(-60, outcome)
        ended(-3700, outcome)
        ended(60, outcome)
    assert figures(page()) == {
        "asleep": "7",
        "due within a minute": "5",
        "being called": "1",
        "overdue": "6",
        "gave up, of the last hour": "3",
        "calls a second": "0.0",
    }


def test_what_comes_and_what_was_called_is_in_order() -> None:
    for seconds in (20, 10, 30):
        new_timer(seconds, url=f"http://example.com/in/{seconds}")
        new_timer(-seconds, url=f"http://example.com/over/{seconds}")
        ended(
            -seconds, "delivered", url=f"http://example.com/was/{seconds}"
        )
    text = page()
    assert re.findall(r"/(?:in|over|was)/\d+", text) == [
        "/over/30", "/over/20", "/over/10", "/in/10", "/in/20", "/in/30",
        "/was/10", "/was/20", "/was/30",
    ]
    assert text.count("0.6 ms late") == 3


def test_many_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (overview, now):
        monkeypatch.setattr(module, "MOST", 3)
    new_timers(5, -5)
    text = page()
    assert figures(text)["overdue"] == "3+"
    assert "3 or more timers should have been called by now." in text


def test_of_many_that_sleep_the_number_is_said_roughly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given 137 of an account's 157 timers that sleep, and another account's
    other = account("other")
    new_timers(40, 3600)
    execute("UPDATE timer SET account_id = %s", other)
    new_timers(137, 3600)
    new_timers(10, 30)
    for _ in range(10):
        ended(-60, "delivered")
    assert figures(page())["asleep"] == "137"

    # When they are too many to count, Then a sample is, of all pages here
    monkeypatch.setattr(ahead, "FEW", 100)
    assert figures(page())["asleep"] == "about 140"
    assert len(re.findall('data-kind="near"', page())) == 30


def test_a_url_is_shown_as_it_is() -> None:
    new_timer(5, url="http://example.com/<script>\"'&\u202e")
    text = page()
    assert "/&lt;script&gt;&quot;&#x27;&amp;" in text


def test_troubles_are_said_first() -> None:
    assert "All is well." in page()
    execute(
        "INSERT INTO process VALUES (gen_random_uuid(), 'worker', '<b>:1',"
        " now(), now(), 'its disk is full')"
    )
    text = page()
    assert "Worker &lt;b&gt;:1: its disk is full." in text
    assert "All is well." not in text


def test_what_did_not_change_is_not_sent_again() -> None:
    new_timer(60)
    first = Client().get("/dashboard/now")
    tag = first["ETag"]
    assert first.status_code == 200
    again = {"If-None-Match": tag}
    assert page("/dashboard/now", 304, **again) == ""
    assert tag in page().replace("&quot;", '"')
    new_timer(61)
    page("/dashboard/now", 200, **again)


def test_what_did_not_change_is_not_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a timer that waits, and a process that is seen now and again, while
    # no minute ends: each minute's numbers are drawn
    eventually(lambda: database_clock().second < 50, within=10)
    timer = new_timer(60)
    notice = processes.Notice("dispatcher", lambda: processes.Work(0))
    notice.write(Sign(0.5))
    drawn: list[str] = []
    draw = Part.of

    def noted(template: str, values: dict[str, Any]) -> Part:
        drawn.append(template)
        return draw(template, values)

    monkeypatch.setattr(Part, "of", noted)
    page("/dashboard/now")

    # When seconds pass, Then nothing that is shown has changed
    execute("UPDATE process SET seen_at = seen_at - interval '3 s',"
            " good_at = good_at - interval '3 s'")
    left = time_left(timer)
    eventually(lambda: time_left(timer) < left)
    page("/dashboard/now")
    assert drawn == ["dashboard/now_part.html"]

    # Until the process is not seen for long
    execute("UPDATE process SET seen_at = seen_at - interval '10 s'")
    assert re.search(r"1\d s ago", page("/dashboard/now"))
    assert len(drawn) == 2


def test_all_who_look_ask_postgres_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Connection] = []
    count = overview.counts

    def counted(connection: Connection, account: int) -> overview.Counts:
        asked.append(connection)
        return count(connection, account)

    monkeypatch.setattr(overview, "counts", counted)
    monkeypatch.setattr(now.fresh, "_seconds", 60)
    for _ in range(5):
        Client().get("/")
        Client().get("/dashboard/now")
    assert len(asked) == 1


def test_without_postgres_the_frame_says_so(postgres: PostgresSwitch) -> None:
    postgres.goes_away()
    for path in ("/", "/dashboard/now"):
        text = page(path, 503)
        assert "<h1>Postgres is away</h1>" in text
        assert 'aria-label="Pages"' in text
    postgres.comes_back()
    page()

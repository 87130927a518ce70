"""The numbers of Now and Hosts are those of the roll-ups, and of the rows."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from pytest_django import Settings

from apps.core.database import list_pool, pool
from apps.dashboard import health, now, numbers
from apps.monitoring import processes
from apps.monitoring.heartbeat import Sign
from apps.monitoring.processes import Notice, Work
from apps.monitoring.rollups import reading
from apps.timers.models import Outcome
from apps.timers.storage import recording
from apps.timers.storage.claim_records import Report
from apps.timers.storage.records import Attempt
from tests.support.accounts import OWNER
from tests.support.pages_text import text_of
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rollups import add_all
from tests.support.rows import (
    claimed,
    database_clock,
    new_timer,
    new_timers,
)
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _fresh(db_pool: None, settings: Settings) -> None:
    settings.RABBITMQ_URL = ""
    now.fresh.forget()
    numbers.fresh.forget()
    health._fresh.forget()


def page(path: str = "/", status: int = 200) -> str:
    now.fresh.forget()
    numbers.fresh.forget()
    answer = Client().get(path)
    assert answer.status_code == status
    return answer.content.decode()


def called(
    count: int, late_ms: float, took_ms: float = 20, status: int | None = 200,
    url: str = "http://a.example/", error: str | None = None,
) -> None:
    """Record calls, so late and of such a duration."""
    outcome = Outcome.DELIVERED if status == 200 else Outcome.FAILED
    recording.record([
        Report(claim.id, claim.token, outcome, error, Attempt(
            1, claim.next_at,
            claim.next_at + timedelta(milliseconds=late_ms)
            if status else None,
            status, error, timedelta(milliseconds=took_ms), None,
        ))
        for claim in map(claimed, new_timers(count, -1, url=url))
    ])


def shift(term: str) -> None:
    """Let what is in the roll-ups have happened earlier."""
    add_all()
    with pool().connection() as connection:
        for table in "roll_up", "roll_up_host":
            connection.execute(
                f"UPDATE {table} SET at = at - interval '{term}'"
            )


def on_time() -> dict[str, list[str]]:
    """Return what each span's bar says, and the words beside it."""
    rows = re.findall(
        r'<tr><th scope="row">(\d+ [hd])</th><td>(.*?)</td></tr>',
        page(), re.DOTALL,
    )
    return {span: re.findall(r"<span[^>]*>(.*?)</span>", cell)
            for span, cell in rows}


def test_shares_of_what_was_on_time() -> None:
    # Given calls of 29 days ago, of this day and of now
    assert on_time()["1 h"] == ["no call"]
    called(8, 4.9)
    shift("29 days")
    called(8, 5)
    shift("22 h")
    called(3, 5)
    called(1, 5.001)
    called(2, 50)
    called(1, 999)
    called(1, 1000.001)
    called(4, 0, status=None, error="refused: x")  # did not leave
    add_all()

    # Then each span has its own shares
    found = on_time()
    assert found["1 h"] == [
        "37.5 % within 5 ms", "75.0 % within 50 ms", "87.5 % within 1000 ms",
    ]
    assert found["24 h"] == [
        "68.8 % within 5 ms", "87.5 % within 50 ms", "93.8 % within 1000 ms",
    ]
    assert found["30 d"] == [
        "79.2 % within 5 ms", "91.7 % within 50 ms", "95.8 % within 1000 ms",
    ]


def minutes(text: str) -> list[list[str]]:
    """Return the numbers of minutes in which there were calls."""
    rows = re.findall(r"<tr data-minute.*?</tr>", text, re.DOTALL)
    assert len(rows) == 60
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [each[1:] for each in cells if each[1] != "0"]


def test_the_last_hour_minute_by_minute() -> None:
    eventually(lambda: database_clock().second < 55, within=10)
    called(99, 0.6)
    called(1, 70_000)
    shift("5 min")
    called(60, 4)
    shift("1 min")
    add_all()

    text = page()

    # Then the latest minute comes first; quantiles are about right
    assert minutes(text) == [
        ["60", "4.0 ms", "4.0 ms", "4.0 ms"],
        ["100", "0.6 ms", "0.7 ms", "70.0 s"],
    ]
    news = Client().get("/dashboard/now/lateness")
    assert minutes(news.content.decode()) == minutes(text)
    again = {"if-none-match": news["ETag"]}
    answer = Client().get("/dashboard/now/lateness", headers=again)
    assert (answer.status_code, answer.content) == (304, b"")
    assert "<dt>calls a second</dt><dd>1.0</dd>" in text


def receivers(text: str) -> list[list[str]]:
    """Return what each row of the page Hosts says."""
    return [
        [text_of(cell) for cell in re.findall(
            r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL
        )]
        for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)[1:]
    ]


def test_hosts_of_the_last_hour() -> None:
    # Given calls at two hosts, of which one is being called and one hangs
    assert "No timer was called" in page("/dashboard/hosts")
    called(3, 1)
    shift("61 min")
    called(6, 1, 30)
    called(2, 1, 30, 503)
    called(2, 1, 30, 404)
    url = "http://b.example:81/"
    called(3, 0, 40, None, url, "refused: nobody")
    called(4, 0, 40, None, url, "timeout: too slow")
    add_all()
    for _ in range(2):
        claimed(new_timer(-1, url="http://a.example/"))
    hanging = [("b.example", 81, 180_000.0)]
    Notice("worker", lambda: Work(7, 64, 3, hanging)).write(Sign())
    Notice("worker", lambda: Work(0, 64, 1, [])).write(Sign())
    Notice("dispatcher", lambda: Work(1200)).write(Sign())

    # Then the page says so, the busiest host first
    text = page("/dashboard/hosts")
    found = receivers(text)
    assert text.count("median lateness") == 2
    assert found == [
        ["a.example", "now 2 of 128 threads", "calls 10",
         "late half within 0.8 ms, 99 % within 1.0 ms",
         "duration half within 25.0 ms, 99 % within 29.9 ms",
         "4xx 2, 5xx 2"],
        ["b.example answers nothing for 2 days 2 h", "now 0 of 128 threads",
         "calls 7", "late",
         "duration half within 40.0 ms, 99 % within 40.0 ms",
         "timeout 4, refused 3"],
    ]

    # And the page Now says what each process does
    text = text_of(page())
    version = settings.VERSION
    assert f"{version} 3 of 64 threads call · 7 wait for a thread ·" in text
    assert f"{version} 1 of 64 threads call · ● well" in text
    assert f"{version} 1,200 wait in RabbitMQ · ● well" in text

    assert "b.example answers nothing: one call" in text_of(
        page("/dashboard/hosts")
    )

    # And it can be asked for one, however it is written
    found = receivers(page("/dashboard/hosts?host=B.example"))
    assert [row[0] for row in found] == [
        "b.example answers nothing for 2 days 2 h"
    ]
    for strange in ("<script>", "%00", "c.example", "x" * 5000):
        text = page(f"/dashboard/hosts?host={strange}")
        assert receivers(text) == [] or strange == "%00"
        assert "<script>." not in text


def test_of_many_hosts_the_busiest_are_shown() -> None:
    for number in range(22):
        called(1 + (number == 21), 1, url=f"http://{number}.example/")
    add_all()
    text = page("/dashboard/hosts")
    assert len(receivers(text)) == 20
    assert receivers(text)[0][0] == "21.example"
    assert "at the 20 hosts that had most" in text


def test_others_numbers_are_not_shown() -> None:
    with pool().connection() as connection:
        connection.execute(
            "INSERT INTO tally (at, account_id, host, status_code, due_at,"
            " sent_at) SELECT now(), 7, 'secret.example', 200, now(), now()"
        )
    add_all()
    assert "secret" not in page("/dashboard/hosts")
    assert on_time()["30 d"] == ["no call"]
    with list_pool().connection() as connection:
        assert reading.shares(connection, 7)[0].calls == 1


def test_without_postgres_pages_say_so(postgres: PostgresSwitch) -> None:
    postgres.goes_away()
    for path in ("/dashboard/hosts", "/dashboard/now/lateness"):
        assert "can&#x27;t be reached" in page(path, 503)


def test_rows_of_an_older_version_have_fewer_places() -> None:
    called(3, 1)
    add_all()
    with pool().connection() as connection:
        connection.execute("UPDATE roll_up SET results = '{1}', took = '{}'")
    called(2, 1, status=500)
    add_all()
    with list_pool().connection() as connection:
        minutes = reading.last_hour(connection, OWNER)
    sums = reading.total(minutes.values())
    assert sums.named_results() == {"2xx": 1, "5xx": 2}


def test_a_process_of_an_older_version_says_nothing_of_its_threads() -> None:
    Notice("worker").write(Sign())
    with list_pool().connection() as connection:
        (row,) = processes.seen(connection)
    assert (row.threads, row.busy, row.circuits) == (None, None, None)
    called(1, 1)
    add_all()
    assert receivers(page("/dashboard/hosts"))[0][1] == "now 0"


@pytest.mark.parametrize(
    ("counts", "most", "share", "expected"),
    [
        ({}, None, 0.5, None),
        ({4: 10}, 1.0, 0.5, 0.85),
        ({4: 10}, 0.8, 0.5, 0.8),
        ({0: 1, 8: 1}, 4.0, 1, 4.0),
        ({34: 1}, 3e7, 0.5, 2e7),
    ],
)
def test_quantiles_lie_evenly_in_their_band(
    counts: dict[int, int], most: float | None, share: float, expected: Any
) -> None:
    sums = reading.Sums(
        late=[counts.get(number, 0) for number in range(35)],
        late_most=None if most is None else timedelta(milliseconds=most),
    )
    assert sums.late_ms(share) == pytest.approx(expected)


def test_the_minutes_of_an_hour() -> None:
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    found = reading.minutes(at)
    assert (len(found), found[0], found[-1]) == (
        60, at - timedelta(minutes=59), at
    )

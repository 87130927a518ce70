"""The page Ahead: its counts are those of the rows; a sample is called so."""

import html
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.test import Client
from pytest_django import Settings

from apps.core.database import list_pool
from apps.dashboard import ahead
from apps.timers.storage import ahead as storage
from tests.support.accounts import OWNER, account
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rows import change, new_timers
from tests.support.timers import execute

#: Each of the timers' times, in seconds after the next full hour.
WHEN = (0.25, 0.5, 0.75, 90, 3700, 86_500, 86_500.5)


@pytest.fixture(autouse=True)
def _fresh(db_pool: None, settings: Settings) -> Iterator[None]:
    settings.RABBITMQ_URL = ""
    ahead.fresh.forget()
    yield
    ahead.fresh.forget()


def page(status: int = 200) -> str:
    ahead.fresh.forget()
    answer = Client().get("/dashboard/ahead")
    assert answer.status_code == status
    return answer.content.decode()


def plain(text: str) -> str:
    main = text.partition("<main")[2].partition(">")[2]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", main)).split())


def read(of: int = OWNER) -> storage.Ahead:
    with list_pool().connection() as connection:
        return storage.ahead(connection, of)


def due(host: str, *seconds: float, queued: bool = False) -> None:
    """Store timers that are due so long after the next full hour."""
    for timer, after in zip(
        new_timers(len(seconds), 60, url=f"http://{host}/", queued=queued),
        seconds,
        strict=True,
    ):
        change(
            timer,
            "next_at = date_trunc('hour', now()) + interval '1 h'"
            f" + interval '{after} s'",
        )
        change(timer, "due_at = next_at")


def counts(of: list[storage.Due] | object) -> dict[datetime, int]:
    assert isinstance(of, list)
    return {each.at: each.count for each in of if each.count}


def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any account count as one with many timers."""
    monkeypatch.setattr(storage, "FEW", 0)


@pytest.mark.parametrize("is_large", [False, True])
def test_the_counts_are_those_of_the_rows(
    is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        large(monkeypatch)
    due("a.example", *WHEN)
    due("b.example", 0.1, 0.2, queued=True)
    new_timers(3, -5)
    other = account("other")
    execute("UPDATE timer SET account_id = %s WHERE next_at < now()", other)
    found = read()
    assert found.is_sample == is_large
    hour = found.hours[0].at + timedelta(hours=1)
    assert counts(found.hours)[hour] == 6
    assert counts(found.hours).get(hour + timedelta(hours=1)) == 1
    assert sum(each.count for each in found.days) == 9
    near = counts(found.minutes)
    end = found.minutes[-1].at + timedelta(minutes=1)
    within = sum(
        hour + timedelta(seconds=each) < end
        for each in (*WHEN, 0.1, 0.2)
    )
    assert sum(near.values()) == within
    assert near.get(hour) in (5, None)
    assert [(h.at, h.host, h.count, h.is_exact) for h in found.herds] == [
        (hour, "a.example", 3, True), (hour, "b.example", 2, True),
    ]
    assert read(other).herds == []


def test_only_own_timers_that_wait_and_come_are_counted() -> None:
    new_timers(3, 60)
    execute("UPDATE timer SET outcome = 'cancelled'")
    new_timers(2, -60)
    assert counts(read().days) == {}
    text = plain(page())
    assert text.count("No timer is due.") == 3
    assert "No second of the next day has several timers" in text


def test_what_is_estimated_is_called_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large(monkeypatch)
    monkeypatch.setattr(storage, "NEXT", 2)
    monkeypatch.setattr(storage, "MOST", 2)
    # All of the table, which gets one page, but a millionth of it
    execute("TRUNCATE timer")
    monkeypatch.setattr(storage, "PAGES", 1 - 1e-6)
    due("a.example", 1, 1.1, 1.2, 1.3)
    found = read()
    assert (found.herds[0].count, found.herds[0].is_exact) == (4, False)
    assert not found.days[0].is_exact
    assert sum(each.count for each in found.days) == 4
    text = plain(page())
    assert "about 4 timers at a.example" in text
    assert "About 4 timers, estimated from a sample; at most 4 in a" in text
    assert "comes from a sample of the table" in text
    assert "All counts are exact" not in text


def called(host: str, seconds: float, count: int = 3) -> None:
    """Store timers of a host that were answered, each so late."""
    for timer in new_timers(count, -60, url=f"http://{host}/"):
        change(timer, "outcome = 'delivered', fired_at = due_at")
        execute(
            "INSERT INTO attempt (timer_id, number, due_at, duration,"
            " status_code) VALUES (%s, 1, now(), %s, 200)",
            timer, timedelta(seconds=seconds),
        )


def workers(count: int) -> None:
    for _ in range(count):
        execute(
            "INSERT INTO process VALUES (gen_random_uuid(), 'worker', 'w',"
            " now(), now(), NULL, 64)"
        )


def test_how_late_the_last_one_will_be_is_said() -> None:
    workers(2)
    called("a.example", 0.2)
    due("a.example", *(3600 + n / 1000 for n in range(999)))
    due("b.example", 30, 30)
    text = plain(page())
    # 999 calls of 205 ms each, 92 at once
    assert "999 timers at a.example , 200.0 ms each" in text
    assert "the last one about 2.2 s late, with 92 calls at once" in text
    assert "128 calls at once (worker processes: 2)" in text
    assert "b.example 2 not called yet not known" in text


def test_without_a_worker_nothing_is_foretold() -> None:
    called("a.example", 0.2)
    due("a.example", 30, 30)
    text = plain(page())
    assert "a.example 2 200.0 ms not known" in text


def test_only_the_latest_answers_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "LATEST", 3)
    called("a.example", 9)
    execute("UPDATE timer SET due_at = due_at - interval '1 day'")
    called("a.example", 0.1)
    with list_pool().connection() as connection:
        found = storage.durations(connection, OWNER, ["a.example", "b"])
        assert found == {"a.example": pytest.approx(0.1)}
        assert storage.durations(connection, account("other"),
                                 ["a.example"]) == {}


def test_hosts_are_escaped() -> None:
    due("a.example", 5, 5)
    execute("UPDATE timer SET host = '<script>'")
    text = page()
    assert "<bdi>&lt;script&gt;</bdi>" in text
    assert "style=" not in text


def test_without_postgres_it_says_so(postgres: PostgresSwitch) -> None:
    postgres.goes_away()
    assert "<h1>Postgres is away</h1>" in page(503)

"""Limits that several processes hold together, and who waits for whom."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from apps.core.database import connect
from apps.timers import services
from apps.timers.storage import limiting
from apps.timers.storage.records import Definition, NewTimer
from tests.support.databases import waiting_for_locks
from tests.support.limits import FAR, Team
from tests.support.timers import execute, value_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")


def test_who_has_no_limits_waits_for_no_lock(team: Team) -> None:
    other = Team("other")
    team.limit(outstanding=5)

    def ways(of: Team) -> list[Callable[[], Any]]:
        return [
            of.set,
            lambda: of.set(FAR | {"key": "a"}),
            lambda: of.ask("PUT", "/timer/by-key/b", FAR),
            lambda: of.ask("POST", "/timers", [FAR, FAR]),
        ]

    # Given another process that holds the lock, so that an account waits
    with ThreadPoolExecutor(4) as pool:
        with connect() as blocker, blocker.transaction():
            blocker.execute("SELECT FROM account_limit FOR UPDATE")
            waiting = [pool.submit(way) for way in ways(team)]
            eventually(lambda: waiting_for_locks() == 4)

            # Then one without limits does not
            for way in ways(other):
                assert way().status_code in (200, 201)
            assert not any(each.done() for each in waiting)
        assert {each.result().status_code for each in waiting} == {200, 201}


def test_many_processes_hold_a_limit_together(team: Team) -> None:
    # Given a limit, and groups of timers as several processes have them
    team.limit(outstanding=100)

    def group(number: int) -> list[NewTimer]:
        definition = Definition("https://example.com/hook")
        return [
            services.new_timer(
                team.id, definition, timedelta(hours=number + 1)
            )
            for _ in range(7)
        ]

    # When all are stored at the same time, and some can't be
    def store(number: int) -> int:
        timers = group(number)
        if number % 3 == 0:
            timers[3] = replace(
                timers[3], definition=Definition("https://example.com/\0")
            )
        answers = []
        with suppress(psycopg.DataError):
            answers = limiting.create(timers)
        return sum(isinstance(each, float) for each in answers)

    with ThreadPoolExecutor(4) as pool:
        stored = sum(pool.map(store, range(24)))

    # Then as many are stored as may be, and what failed was not charged
    assert stored == team.living() == 100
    assert value_of("SELECT room FROM account_limit") == 0


def test_the_count_reads_no_more_than_the_account_has(team: Team) -> None:
    # Given others' timers, and statistics that say so
    execute(
        "INSERT INTO timer (id, account_id, url, host, created_at, due_at,"
        " next_at) SELECT gen_random_uuid(), 1, 'https://example.com/',"
        " 'example.com', now(), now() + interval '1 day',"
        " now() + interval '1 day' FROM generate_series(1, 20000)"
    )
    team.set()
    execute("ANALYZE timer")
    values = {"account": team.id, "most": 10}
    with connect() as connection:
        rows = connection.execute("EXPLAIN " + limiting.COUNT, values)
        plan = "\n".join(line for (line,) in rows)
    assert "Seq Scan" not in plan
    assert "timer_account_host" in plan
    assert "timer_leased" in plan

"""Retention's rounds: batches, several at once, kills and failures."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import psycopg
import pytest
from dramatiq import Worker

from apps.broker.memory import MemoryBroker
from apps.core.database import connect, connection_arguments
from apps.core.outages import TROUBLES
from apps.timers.firing import worker
from apps.timers.firing.worker import WorkerLifecycle
from apps.timers.management.commands import dispatch_timers
from apps.timers.models import Outcome
from apps.timers.scheduling import retention as rounds
from apps.timers.scheduling.retention import Retention, run_once
from apps.timers.storage import by_key, naming, recording, replaying, retention
from tests.support.accounts import OWNER
from tests.support.databases import waiting_for_locks
from tests.support.ended import (
    counts,
    delivered,
    execute,
    go_on,
    kept,
    named,
    pass_days,
    removed,
)
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rows import change, claimed, fill, given_up, report
from tests.support.service import database_url
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")


# --- batches ---------------------------------------------------------------


OLD = "due_at = now() - n * interval '1 s' - interval '99 day'"
ENDED_OLD = (
    f"{OLD}; next_at = now(); fired_at = now() - interval '99 day';"
    " outcome = 'delivered'"
)


def test_a_round_goes_on_in_batches_until_it_is_stopped() -> None:
    fill(1_200, ENDED_OLD)
    left: list[int] = []

    def stop_after_two(seconds: float) -> bool:
        assert seconds > 0
        left.append(len(kept()))
        return left[-1] < 700

    assert run_once(stop_after_two).removed == 1_000
    assert sorted(set(left)) == [200, 700, 1_200]
    assert removed() == 200


def test_a_walk_passes_over_what_stays() -> None:
    # Given more timers that were replayed, and ended lately, than a batch has
    fill(600, ENDED_OLD.replace("fired_at = now() - interval '99 day'",
                                "fired_at = now()"))
    (stays,) = execute("SELECT count(*) FROM timer")[0]
    ended = delivered()
    pass_days(29)
    change(ended, "fired_at = now() - interval '31 day',"
           " due_at = now() - interval '31 day'")
    assert removed() == 1
    assert len(kept()) == stays


def test_a_walk_goes_on_from_moments_that_python_does_not_know() -> None:
    fill(501, ENDED_OLD.replace(
        OLD, "due_at = '0044-03-15 BC'::timestamptz + n * interval '1 s'"
    ))
    assert removed() == 501


def test_timers_with_many_rows_are_removed_a_few_at_a_time() -> None:
    rows = [
        {"id": uuid4(), "is_over": over, "rows": count}
        for count, over in (
            (1, True), (4_000, True), (1_000, True), (90_000, True),
            (1, False), (-5, True), (None, True),
        )
    ]
    found = [
        [[row["id"] for row in rows].index(each) for each in group]
        for group in retention._groups(rows)
    ]
    assert found == [[0, 1], [2], [3], [5, 6]]


# --- at once ---------------------------------------------------------------


def test_two_at_once_remove_each_timer_once() -> None:
    fill(4_000, ENDED_OLD)
    start = threading.Barrier(2)

    def run() -> int:
        start.wait()
        return removed()

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(run) for _ in range(2)]
    both = [each.result() for each in runs]
    # One may pass over what the other one is about to remove.
    assert sum(both) + removed() == 4_000
    assert not kept()


def test_what_is_held_is_left_for_later() -> None:
    held, _ = (given_up(Outcome.FAILED).id for _ in range(2))
    pass_days(91)
    with psycopg.connect(**connection_arguments()) as other:
        other.execute("SELECT FROM timer WHERE id = %s FOR UPDATE", [held])
        assert removed() == 1
        assert kept() == {held}
    assert removed() == 1


def test_a_replay_and_a_removal_do_not_harm_each_other() -> None:
    start = threading.Barrier(2)

    def at_once(act: Callable[[], Any]) -> Any:
        start.wait()
        return act()

    with ThreadPoolExecutor(2) as threads:
        for number in range(40):
            # Given a timer with a key that failed long ago
            timer = named(f"key {number}")
            naming.create([timer])
            timer_id = timer.timer.id
            recording.record([report(claimed(timer_id), Outcome.FAILED)])
            change(timer_id, "fired_at = '2020-01-01', due_at = '2020-01-01'")

            # When it is replayed as its term is over, Then one of both wins
            replay = threads.submit(
                at_once, lambda: replaying.replay(OWNER, [timer_id])  # noqa: B023
            )
            count = at_once(removed)
            assert len(replay.result()) + count == 1
            holder = by_key.holder(OWNER, f"key {number}")
            assert holder == (None if count else timer_id)


SCRIPT = """
import django
django.setup()
from apps.timers.scheduling.retention import run_once
run_once(lambda seconds: False)
"""


def test_a_kill_leaves_nothing_half_done() -> None:
    # Given a process that is in the middle of a batch
    timers = {delivered() for _ in range(5)}
    pass_days(31)
    with psycopg.connect(**connection_arguments()) as other:
        other.execute("SELECT FROM attempt FOR UPDATE")
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            cwd=Path(__file__).parents[4],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings",
                 "DATABASE_URL": database_url()},
        )
        try:
            eventually(waiting_for_locks)
        finally:
            # When it is killed
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    # Then nothing is gone, and the next round removes all
    def has_gone() -> bool:
        return not execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state = 'active' AND query LIKE '%DELETE FROM attempt%'"
        )

    eventually(has_gone)
    assert kept() == timers
    assert counts()["attempt"] == 5
    assert removed() == 5
    assert not any(counts().values())


# --- failures --------------------------------------------------------------


@pytest.mark.usefixtures("clean_rows")
def test_a_row_that_cannot_be_removed_harms_no_other() -> None:
    # Given a row that nobody can delete, and labels that nobody has written
    sealed, *others = (delivered() for _ in range(4))
    labelled = named(None, user="17")
    naming.create([labelled])
    recording.record([report(claimed(labelled.timer.id))])
    change(others[0], "labels = '[1]'")
    pass_days(31)
    execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no, never'; END $$"
    )
    try:
        execute(
            "CREATE TRIGGER refuse BEFORE DELETE ON timer FOR EACH ROW"
            f" WHEN (old.id = '{sealed}') EXECUTE FUNCTION refuse()"
        )
        # When a round is done, Then all others go, and it is told
        assert removed() == 4
        assert kept() == {sealed}
        assert TROUBLES.recent() == [f"timer {sealed}: invalid: no, never"]
    finally:
        execute("DROP FUNCTION refuse CASCADE")


def test_a_statement_that_fails_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stays, goes = delivered(), given_up(Outcome.FAILED).id
    pass_days(91)
    broken = {**retention.FIND, Outcome.DELIVERED: "SELECT 1 / 0"}
    monkeypatch.setattr(retention, "FIND", broken)
    done = run_once(go_on)
    assert done == rounds.Round(removed=1, failed=True)
    assert kept() == {stays}
    assert goes not in kept()
    (told,) = TROUBLES.recent()
    assert told.startswith("removing what was delivered long ago: Division")


def test_the_thread_outlives_an_outage_and_ends_when_told(
    postgres: PostgresSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the thread, and no Postgres
    monkeypatch.setattr(rounds, "_INTERVAL", 0.01)
    monkeypatch.setattr(rounds, "_AGAIN", 0.01)
    tried = threading.Event()
    run = rounds.run_once

    def noted(rest: Callable[[float], bool]) -> rounds.Round:
        done = run(rest)
        if done.failed:
            tried.set()
        return done

    monkeypatch.setattr(rounds, "run_once", noted)
    delivered()
    pass_days(31)
    postgres.goes_away()
    thread = Retention()
    try:
        assert tried.wait(5)

        # When Postgres is back, Then it does its work
        postgres.comes_back()
        with connect() as connection:
            eventually(lambda: connection.execute(
                "SELECT count(*) FROM timer"
            ).fetchone() == (0,))
    finally:
        thread.close()
    assert not thread._thread.is_alive()


# --- where it runs ---------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin rounds often, and leave heartbeats nowhere else."""
    monkeypatch.setattr(rounds, "_INTERVAL", 0.05)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))


@pytest.mark.rabbitmq
@pytest.mark.usefixtures("often", "ladder")
def test_a_dispatcher_removes_what_ended_long_ago() -> None:
    delivered()
    pass_days(31)
    stopping = threading.Event()
    running = threading.Thread(target=dispatch_timers._run, args=(stopping,))
    running.start()
    try:
        eventually(lambda: not kept())
    finally:
        stopping.set()
        running.join(10)
    assert not running.is_alive()


@pytest.mark.usefixtures("often")
def test_a_worker_that_feeds_itself_removes_what_ended_long_ago(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker, "claims", Mock())
    monkeypatch.setattr(worker, "close_pool", lambda: None)
    delivered()
    pass_days(31)
    running = Worker(memory_broker, worker_threads=1)
    lifecycle = WorkerLifecycle()
    lifecycle.after_worker_boot(memory_broker, running)
    try:
        eventually(lambda: not kept())
    finally:
        lifecycle.before_worker_shutdown(memory_broker, running)
        lifecycle.after_worker_shutdown(memory_broker, running)

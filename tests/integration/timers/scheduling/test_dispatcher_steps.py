"""A step that fails, or has much to do, costs the other steps nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from django.core.management import call_command

from apps.broker.rabbitmq import LadderBroker
from apps.core import outages
from apps.core.database import pool
from apps.core.outages import TROUBLES
from apps.monitoring import heartbeat, processes
from apps.timers.management.commands import dispatch_timers
from apps.timers.scheduling import dispatcher, steps
from apps.timers.storage import claiming, queueing, taking_over
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rows import change, claimed, fill, new_timer, row
from tests.support.waiting import eventually

Loop = Callable[[], threading.Thread]

pytestmark = pytest.mark.rabbitmq


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over soon after a start of Postgres."""
    monkeypatch.setattr(taking_over, "SETTLE", claiming.LEAD * 0)


class Work:
    """One timer for each step of a pass."""

    def __init__(self) -> None:
        self.near = new_timer(30)
        self.overdue = new_timer(-30)
        self.lost = new_timer(-30, queued=True)
        change(self.lost, "queued_at = now() - interval '2 min'")
        self.ended = claimed(new_timer(-30)).id
        change(self.ended, "leased_until = now() - interval '1 ms'")

    def done(self) -> set[str]:
        """Return the steps that were done."""
        timers = vars(self)
        rows = {name: row(timer_id) for name, timer_id in timers.items()}
        found = {
            name for name in ("near", "overdue") if rows[name]["queued_at"]
        }
        if rows["ended"]["fired_at"] is None:
            found.add("ended")
        with pool().connection() as connection:
            again = connection.execute(
                "SELECT queued_at > now() - interval '1 min' FROM timer"
                " WHERE id = %s",
                [self.lost],
            ).fetchone()
        if again == (True,):
            found.add("lost")
        return found


def broken(*_: Any, **__: Any) -> Any:
    raise psycopg.errors.NumericValueOutOfRange("smallint out of range")


def timed_out(*_: Any, **__: Any) -> Any:
    # For psycopg this is of the kind that a lost connection is of.
    raise psycopg.errors.QueryCanceled("due to statement timeout")


def unforeseen(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("step", "name", "fail"),
    [
        ("ended", "taking over", broken),
        ("near", "queueing what is near", timed_out),
        ("overdue", "queueing what is overdue", unforeseen),
        ("lost", "looking for what is lost", broken),
    ],
)
def test_a_step_that_fails_leaves_the_others_to_be_done(
    ladder: LadderBroker, request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    step: str, name: str, fail: Callable[..., Any],
) -> None:
    # Given something to do for each step, one of which always fails
    work = Work()
    mended = pytest.MonkeyPatch()
    request.addfinalizer(mended.undo)
    promote = queueing.promote
    if step in ("near", "overdue"):
        def promote_one(*, overdue: bool, limit: int) -> Any:
            is_broken = overdue == (step == "overdue")
            return (fail if is_broken else promote)(
                overdue=overdue, limit=limit
            )

        mended.setattr(queueing, "promote", promote_one)
    else:
        module, what = {
            "ended": (taking_over, "take_over"), "lost": (queueing, "lost"),
        }[step]
        mended.setattr(module, what, fail)

    # When passes are done, Then the others' work is
    for _ in range(3):
        done = dispatcher.run_once()
    assert work.done() == {"near", "overdue", "lost", "ended"} - {step}

    # And the failure is told, once, and counts
    assert list(done.failed) == [name]
    told = [r for r in caplog.records if r.levelname == "ERROR"]
    assert [vars(r)["what"] for r in told] == [name]
    assert done.troubles == TROUBLES.recent()

    # When it works again, Then that is over
    mended.undo()
    assert not dispatcher.run_once().failed
    assert work.done() == {"near", "overdue", "lost", "ended"}
    assert not TROUBLES.recent()


def test_a_statement_that_always_fails_stops_nobody(
    ladder: LadderBroker, broken_update: None
) -> None:
    # Given a database in which nothing can be taken over
    work = Work()

    # When a pass is done, Then it says why, and the rest of it is done
    done = dispatcher.run_once()
    assert done.failed == {"taking over": "UndefinedFunction: no, never"}
    assert work.done() == {"near", "overdue", "lost"}


def test_an_outage_is_no_step_that_fails(
    ladder: LadderBroker, postgres: PostgresSwitch
) -> None:
    postgres.goes_away()
    with pytest.raises(psycopg.OperationalError):
        dispatcher.run_once()
    assert not TROUBLES.recent()


def test_recovery_does_what_it_can_and_says_what_it_cannot(
    ladder: LadderBroker, broken_update: None, capsys: Any
) -> None:
    work = Work()
    call_command("recover_timers")
    assert capsys.readouterr().out == (
        "Queued 3 timers: 2 overdue, 1 near. Taken over from dead workers: 0."
        " Not done, and tried again by the dispatcher:"
        " taking over: UndefinedFunction: no, never.\n"
    )
    assert work.done() == {"near", "overdue", "lost"}


def test_what_a_broker_fails_on_loses_its_mark(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer_id = new_timer(30)
    monkeypatch.setattr(ladder, "enqueue_many", unforeseen)
    done = dispatcher.run_once()
    assert done.failed == {"queueing what is near": "ZeroDivisionError"}
    assert done.troubles
    assert row(timer_id)["queued_at"] is None


@pytest.fixture
def broken_update(db_pool: None) -> Iterator[None]:
    """Have the database refuse to take a claim over, whatever the row."""
    with pool().connection() as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no, never'"
            " USING ERRCODE = 'undefined_function'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON timer FOR EACH ROW"
            " WHEN (old.leased_until IS NOT NULL AND new.leased_until IS NULL)"
            " EXECUTE FUNCTION refuse()"
        )
    yield
    with pool().connection() as connection:
        connection.execute("DROP FUNCTION refuse CASCADE")


# --- the loop --------------------------------------------------------------


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def loop(
    ladder: LadderBroker, stopping: threading.Event, tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Loop]:
    """Run the dispatcher's loop; it ends with the test."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    started: list[threading.Thread] = []

    def start() -> threading.Thread:
        thread = threading.Thread(
            target=dispatch_timers._run, args=(stopping,)
        )
        started.append(thread)
        thread.start()
        return thread

    yield start
    stopping.set()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def processes_noted() -> list[tuple[Any, ...]]:
    with pool().connection() as connection:
        return connection.execute(processes._READ).fetchall()


def illness() -> str:
    """Return what the health command says, nothing if all is well."""
    return heartbeat.illness("dispatcher") or ""


def test_a_dispatcher_whose_passes_fail_is_unwell_and_says_why(
    loop: Loop, broken_update: None, stopping: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a dispatcher that may be unwell for a second
    monkeypatch.setattr(heartbeat, "STALE_AFTER", 1.0)
    running = loop()
    eventually(lambda: not illness())

    # When its passes fail, Then it is unwell, and all know why
    work = Work()
    why = "ago: taking over: UndefinedFunction: no, never"
    eventually(lambda: why in illness())
    eventually(lambda: processes_noted()[0][4])
    ((role, _, seen, good, trouble, *_),) = processes_noted()
    assert role == "dispatcher"
    assert seen < good
    assert trouble == "taking over: UndefinedFunction: no, never"

    # When what was wrong is mended, Then it is well
    change(work.ended, "leased_until = now() + interval '1 h'")
    eventually(lambda: not illness())
    eventually(lambda: processes_noted()[0][4] is None)

    # When it stops, Then nobody misses it
    stopping.set()
    running.join(10)
    assert not processes_noted()


def test_a_dispatcher_whose_passes_hang_is_unwell(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "STALE_AFTER", 1.5)
    monkeypatch.setattr(outages, "_HANGS", 0.5)
    gate = threading.Event()

    def hang(**_: Any) -> list[Any]:
        gate.wait(20)
        return []

    loop()
    eventually(lambda: not illness())
    monkeypatch.setattr(queueing, "lost", hang)
    why = "looking for what is lost: it hangs"
    eventually(lambda: illness().endswith(f"ago: {why}"))
    eventually(lambda: processes_noted()[0][4] == why)
    gate.set()
    eventually(lambda: not illness())


def test_a_dispatcher_outlives_a_disk_that_takes_nothing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(heartbeat._UNWRITTEN, "_since", None)
    loop()
    for _ in range(2):
        timer_id = new_timer(30)
        eventually(lambda: row(timer_id)["queued_at"])  # noqa: B023
    assert caplog.text.count("heartbeats can't be written") == 1


def test_a_long_way_is_gone_in_short_passes(
    loop: Loop, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given far more near timers than one pass queues, in small batches, and
    # pauses of ten minutes
    monkeypatch.setattr(steps, "_LONGEST", 0.2)
    monkeypatch.setattr(dispatch_timers, "_INTERVAL", 600)
    monkeypatch.setattr(dispatcher, "_BATCH", 20)
    monkeypatch.setattr(dispatcher, "publish", len)
    fill(
        30_000,
        "due_at = now() + interval '50 s';"
        " next_at = now() + interval '50 s'",
    )
    run_once = Mock(wraps=dispatcher.run_once)
    monkeypatch.setattr(dispatcher, "run_once", run_once)
    running = loop()

    # Then it does not pause between passes
    eventually(lambda: run_once.call_count > 3)

    # When a lease ends meanwhile, Then it is taken over in between
    ended = claimed(new_timer(-30)).id
    change(ended, "leased_until = now() - interval '1 ms'")
    eventually(lambda: row(ended)["leased_until"] is None)
    assert unqueued() > 0

    # When it is told to stop, Then it does, with all the rest undone
    stopping.set()
    told = time.monotonic()
    running.join(10)
    assert not running.is_alive()
    assert time.monotonic() - told < 3
    assert unqueued() > 0


def unqueued() -> int:
    """Return how many near timers are not queued yet."""
    with pool().connection() as connection:
        found = connection.execute(
            "SELECT count(*) FROM timer"
            " WHERE queued_at IS NULL AND next_at > now()"
        ).fetchone()
    assert found is not None
    return int(found[0])

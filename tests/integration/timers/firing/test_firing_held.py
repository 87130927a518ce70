"""While the operator holds all calls: what messages and callers meet."""

import logging
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from apps.broker.memory import MemoryBroker
from apps.broker.rabbitmq import LadderBroker
from apps.core.database import pool
from apps.timers.explain.words import moment
from apps.timers.firing import fire
from apps.timers.scheduling import dispatcher, feeder
from apps.timers.scheduling.dispatcher import Pass
from apps.timers.scheduling.feeder import Feeder
from apps.timers.scheduling.holding import HOLD
from apps.timers.storage import holding, looking
from tests.support.api import create, send
from tests.support.explained import comes, summary
from tests.support.postgres_switch import PostgresSwitch
from tests.support.receiver import Receiver
from tests.support.rows import change, new_timer, new_timers, row
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")


@pytest.fixture(autouse=True)
def _no_hold() -> None:
    """End what earlier tests left: its beginning is logged, a few times."""
    HOLD.worked()
    HOLD._lines.clear()


def run(*command: str) -> str:
    output = StringIO()
    call_command(*command, stdout=output)
    return output.getvalue()


@pytest.mark.usefixtures("local_calls")
def test_a_message_that_meets_a_hold_ends_and_is_told_of_once(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    # Given messages for timers, and a hold
    ids = [new_timer(-1, url=receiver.url(), queued=True) for _ in range(20)]
    holding.hold(None)

    # When workers take them, Then they end; nobody is called
    with caplog.at_level(logging.INFO):
        for timer_id in ids:
            fire.fire(timer_id)
    assert not receiver.calls
    assert {row(each)["queued_at"] for each in ids} == {None}
    assert caplog.text.count("holds all calls") == 1

    # When the hold is over, and there are messages again
    holding.release()
    for timer_id in ids:
        fire.fire(timer_id)
    assert len(receiver.calls) == 20


@pytest.mark.rabbitmq
def test_a_dispatcher_queues_nothing_during_a_hold(
    ladder: LadderBroker, caplog: pytest.LogCaptureFixture
) -> None:
    # Given timers that would be queued, and a hold
    new_timers(3, -5)
    new_timers(2, 30)
    lost = new_timer(-30, queued=True)
    change(lost, "queued_at = now() - interval '2 min'")
    hold = holding.hold("restored").hold

    # When passes are done, Then they queue none
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert dispatcher.run_once() == Pass(hold=hold)
        assert run("recover_timers") == (
            "All calls are held: 4 overdue and 2 near timers wait in Postgres"
            " until `manage.py release`. Taken over from dead workers: 0.\n"
        )
        assert caplog.text.count("the operator holds all calls") == 1

        # When it is over, Then the next pass queues them
        holding.release()
        assert dispatcher.run_once() == Pass(overdue=3, near=2, lost=1)
        assert "the operator's hold is over" in caplog.text


def test_a_feeder_feeds_nothing_until_it_hears_of_the_release(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "_POLL", 60)
    holding.hold(None)
    overdue, near = new_timer(-5), new_timer(30)
    change(near, "next_at = now() + interval '1 s'")
    fed = Feeder(memory_broker)
    try:
        eventually(HOLD.lasts)
        assert fed.run_once() == 0
        assert memory_broker.outstanding() == 0
        holding.release()
        eventually(lambda: memory_broker.known(str(overdue)))
        eventually(lambda: memory_broker.known(str(near)))
    finally:
        fed.close()


def test_timers_are_set_listed_changed_and_cancelled_meanwhile(
    memory_broker: MemoryBroker,
) -> None:
    client = Client()
    run("hold", "--reason", "restored")
    ids = [UUID(create(minutes=9).json()["id"]) for _ in range(3)]
    assert len(client.get("/timers").json()["timers"]) == 3
    assert client.delete(f"/timer/{ids[0]}").status_code == 204
    moved = client.patch(
        f"/timer/{ids[1]}", {"hours": 0, "minutes": 2, "seconds": 0},
        content_type="application/json",
    )
    assert moved.status_code == 200

    # And a timer that is to fire now waits
    assert send(f"/timer/{ids[2]}/fire").status_code == 202
    fire.fire(ids[2])
    found = looking.get(ids[2])
    assert found is not None
    assert found.status == "scheduled"
    assert summary(ids[2]).startswith(
        "Its time was T, N ago. The operator has held all calls since T"
        " (restored)."
    )
    assert comes(ids[2]) == ("next_at", "It is called soon after the hold.")


def test_the_commands_say_what_they_did() -> None:
    new_timers(2, -5)
    said = run("hold", "--reason", "restored")
    hold = holding.current()
    assert hold is not None
    since = moment(hold.since)
    assert said == (
        f"All calls are held since {since} (restored). Under way, and not"
        " held: 0.\n"
    )
    assert run("hold") == said
    assert run("release") == (
        f"Calls were held since {since}, and go on now: 2 timers are"
        " overdue.\n"
    )
    assert run("release") == "Calls are not held.\n"


def test_a_session_that_may_still_claim_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(holding, "_wait_for_writers", lambda _: [17, 4])
    call_command("hold")
    assert "could still claim some: 17, 4. End them" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["hold", "release"])
def test_they_say_what_is_missing(
    postgres: PostgresSwitch, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with monkeypatch.context() as patch:
        for name in ("HOLD", "RELEASE"):
            patch.setattr(holding, name, "SELECT FROM no_such_table")
        with pytest.raises(CommandError, match=r"run `manage\.py migrate`"):
            call_command(command)
    postgres.goes_away()
    with pytest.raises(CommandError, match="Postgres can't be reached"):
        call_command(command)


def test_a_hold_that_cannot_be_read_is_told(
    memory_broker: MemoryBroker,
) -> None:
    """As before a migration."""
    rename = "ALTER TABLE {} RENAME TO {}"
    with pool().connection() as connection:
        connection.execute(rename.format("hold", "gone"))
        try:
            found = Client().get("/readyz").json()
        finally:
            connection.execute(rename.format("gone", "hold"))
    assert found["status"] == "degraded"
    assert "run `manage.py migrate`" in found["troubles"][0]


def test_readiness_tells_of_a_hold(memory_broker: MemoryBroker) -> None:
    assert "held_since" not in Client().get("/readyz").json()
    hold = holding.hold("restored").hold
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {
        "status": "degraded", "postgres": "ok", "rabbitmq": "not used",
        "held_since": moment(hold.since),
        "troubles": ["all calls are held until `manage.py release`: restored"],
    })
    holding.release()
    assert Client().get("/readyz").json()["status"] == "ok"

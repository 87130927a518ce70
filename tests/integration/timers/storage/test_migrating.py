"""Migrations beside traffic, beside one another, and after an interruption."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.core import database
from apps.core.database import connection_arguments
from apps.timers.storage import migrating
from tests.support.databases import scratch_database
from tests.support.ports import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool")

INSERT = (
    "INSERT INTO timer (id, url, created_at, due_at, next_at)"
    " VALUES (gen_random_uuid(), 'http://127.0.0.1:9/', now(), now(), now())"
)


@pytest.fixture
def empty_database() -> Iterator[None]:
    with scratch_database():
        yield


def other() -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(**connection_arguments())


class Migration:
    """A migrate that runs beside the test."""

    def __init__(self, *target: str) -> None:
        self.said = StringIO()
        self._threads = ThreadPoolExecutor(1)
        self._done: Future[None] = self._threads.submit(self._run, *target)

    def _run(self, *target: str) -> None:
        try:
            call_command(
                "migrate", *target, verbosity=0, stderr=self.said
            )
        finally:
            connection.close()

    def says(self, text: str) -> None:
        eventually(lambda: text in self.said.getvalue() or self._failed())

    def _failed(self) -> bool:
        if self._done.done():
            self._done.result()
            raise AssertionError(f"it ended, and said {self.said.getvalue()}")
        return False

    def end(self) -> None:
        self._done.result(30)
        self._threads.shutdown()


def ask(query: str) -> list[tuple[object, ...]]:
    with other() as session:
        return session.execute(query.encode()).fetchall()


def applied() -> set[object]:
    return {
        name for (name,) in ask(
            "SELECT name FROM django_migrations WHERE app = 'timers'"
        )
    }


def test_many_may_migrate_at_once(empty_database: None) -> None:
    # Given three, the first of which has to wait for somebody's report
    call_command("migrate", "timers", "0003", verbosity=0)
    with other() as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        report.execute("SELECT count(*) FROM timer")
        running = [Migration() for _ in range(3)]

        # Then the others wait for the first, and say so
        waiting = "another migrate is running"
        eventually(
            lambda: sum(waiting in each.said.getvalue() for each in running)
            == 2
        )
    for migration in running:
        migration.end()
    assert "0004_gave_up" in applied()


def test_an_alter_table_lets_others_go_first_and_says_for_whom_it_waits(
    empty_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody's report, that is not yet over
    monkeypatch.setattr(migrating, "LOCK_SECONDS", 1.2)
    monkeypatch.setattr(migrating, "PAUSE_SECONDS", 0.5)
    call_command("migrate", "timers", "0001", verbosity=0)
    with other() as report:
        report.execute("SELECT count(*) FROM timer")

        # When a column is to be added
        migration = Migration("timers", "0002")
        migration.says(f"process {report.info.backend_pid} of Postgres")

        # Then timers can be set meanwhile
        with other() as session:
            session.execute("SET statement_timeout = '5s'")
            session.execute(INSERT)
        migration.says("others go first")
        assert "0002_once" not in applied()
    migration.end()
    assert "0002_once" in applied()


def test_an_index_that_is_built_says_for_whom_it_waits(
    empty_database: None
) -> None:
    call_command("migrate", "timers", "0003", verbosity=0)
    with other() as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        report.execute("SELECT count(*) FROM timer")
        migration = Migration("timers", "0004")
        migration.says(f"process {report.info.backend_pid} of Postgres")
    migration.end()
    assert "0004_gave_up" in applied()


@pytest.mark.parametrize("is_valid", [True, False])
def test_an_interrupted_build_of_an_index_can_be_run_again(
    empty_database: None, is_valid: bool
) -> None:
    # Given an index whose build was cut off, or was not noted any more
    call_command("migrate", "timers", "0003", verbosity=0)
    with other() as session, other() as writer:
        session.autocommit = True
        build = "CREATE INDEX CONCURRENTLY timer_gave_up ON timer (due_at)"
        if is_valid:
            session.execute(build)
        else:
            writer.execute(INSERT)
            session.execute("SET statement_timeout = '100ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                session.execute(build)
    query = (
        "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indexrelid = 'timer_gave_up'::regclass"
    )
    assert ask(query)[0][0] is is_valid

    # When the migration is run again
    call_command("migrate", "timers", "0004", verbosity=0)

    # Then the index is there, as it should be
    [(valid, definition)] = ask(query)
    assert valid
    assert "(due_at, id) WHERE" in str(definition)


def test_a_database_that_cannot_hold_text_is_refused() -> None:
    options = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    with scratch_database(options):
        with pytest.raises(CommandError, match="encoding is SQL_ASCII"):
            call_command("migrate", verbosity=0)
        assert not ask("SELECT FROM pg_tables WHERE tablename = 'timer'")


def test_a_server_that_is_away_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = {"host": "127.0.0.1", "port": str(free_port())}
    monkeypatch.setattr(database, "connection_arguments", lambda: away)
    with pytest.raises(CommandError, match="can't be reached"):
        call_command("migrate", verbosity=0)

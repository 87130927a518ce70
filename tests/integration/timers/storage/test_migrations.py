"""The schema: as the models have it, and on a Postgres that keeps it."""

from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection

pytestmark = pytest.mark.django_db


def test_the_migrations_are_what_the_models_say() -> None:
    output = StringIO()
    call_command("makemigrations", check_changes=True, stdout=output)
    assert "No changes" in output.getvalue()


def test_sleepers_are_in_two_indexes_besides_the_key() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes"
            " WHERE tablename IN ('timer', 'attempt')"
        )
        found = dict(cursor.fetchall())
    assert set(found) == {
        "timer_pkey", "timer_unqueued", "timer_queued", "timer_leased",
        "timer_unleased", "timer_account_status", "timer_account_host",
        "timer_account_key", "attempt_pkey",
    }
    # Partitioning by id must stay possible.
    unique = [name for name, text in found.items() if "UNIQUE" in text]
    assert sorted(unique) == ["attempt_pkey", "timer_pkey"]
    assert "(timer_id, number)" in found["attempt_pkey"]


def durability_errors() -> set[str]:
    return {
        str(error.hint)
        for error in run_checks(databases=["default"])
        if error.id == "timers.E001"
    }


def hints(*settings: str) -> set[str]:
    return {f"Set {name} = on in postgresql.conf." for name in settings}


def test_a_postgres_that_confirms_too_early_is_refused() -> None:
    # The tests' own server may have another of these settings off.
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = on")
        before = durability_errors()
        cursor.execute("SET LOCAL synchronous_commit = off")
    assert durability_errors() - before == hints("synchronous_commit")


@pytest.mark.parametrize("value", ["on", "off"])
def test_each_setting_that_may_lose_commits_is_named(value: str) -> None:
    """Only a server's start sets the others: they are read from a stand-in.

    A temporary table goes before the catalogue's view of that name.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE pg_settings ON COMMIT DROP AS"
            " SELECT name, %s AS setting FROM pg_catalog.pg_settings",
            [value],
        )
    lossy = hints("fsync", "full_page_writes", "synchronous_commit")
    assert durability_errors() == (lossy if value == "off" else set())

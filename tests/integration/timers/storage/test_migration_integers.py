"""The counters become integers, in a table that has rows."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection

from tests.support.rows import change, given_up, row

pytestmark = pytest.mark.usefixtures("db_pool")

_COUNTERS = ("attempts", "claims", "connect_failures", "number", "retries")


@pytest.fixture
def before(db_pool: None) -> Iterator[None]:
    """Let the table be as it was before, and afterwards as it is."""
    yield
    call_command("migrate", "timers", verbosity=0)


def kinds() -> dict[str, str]:
    """Return the types of the counters."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_name IN ('timer', 'attempt')"
            " AND column_name = ANY(%s)",
            [list(_COUNTERS)],
        )
        return dict(cursor.fetchall())


@pytest.mark.usefixtures("before")
def test_counters_are_kept() -> None:
    # Given a timer that was tried often, under the former version
    timer_id: UUID = given_up().id
    change(timer_id, "attempts = 32766, retries = 7")
    call_command("migrate", "timers", "0004", verbosity=0)
    assert kinds() == dict.fromkeys(_COUNTERS, "smallint")

    # When the migration has run, once and again after it was cut off
    call_command("migrate", "timers", verbosity=0)
    call_command("migrate", "timers", "0004", fake=True, verbosity=0)
    call_command("migrate", "timers", "0005", verbosity=0)
    call_command("migrate", "timers", fake=True, verbosity=0)

    # Then its counters are as they were, and may grow
    assert kinds() == dict.fromkeys(_COUNTERS, "integer")
    found = row(timer_id)
    assert (found["attempts"], found["claims"], found["retries"]) == (
        32_766, 1, 7
    )
    change(timer_id, "attempts = attempts + 2")

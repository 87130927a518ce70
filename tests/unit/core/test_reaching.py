"""What is raised when Postgres can't answer."""

import psycopg
import pytest
from django.core.management.base import CommandError

from apps.core.commands import needing_postgres
from apps.core.database import Busy
from apps.core.outages import POSTGRES
from apps.core.reaching import (
    ListTooSlow,
    PostgresAway,
    reaching_postgres,
    reading_list,
)

CANCELED = psycopg.errors.QueryCanceled("canceled\n")


@pytest.mark.parametrize("error", [
    psycopg.OperationalError("no route \n"),
    psycopg.errors.ReadOnlySqlTransaction("no writes"),
    TimeoutError("no answer within 3 s"),
    CANCELED,
])
def test_what_keeps_postgres_from_answering_is_one_error(
    error: Exception,
) -> None:
    # When a request can't be served, Then an outage begins
    with pytest.raises(PostgresAway) as raised, reaching_postgres():
        raise error
    assert str(raised.value) == str(error).strip()
    assert raised.value.__cause__ is error
    assert POSTGRES.lasts()

    # When the next one can, Then it ends
    with reaching_postgres():
        pass
    assert not POSTGRES.lasts()


@pytest.mark.parametrize("error", [ValueError(), psycopg.DataError()])
def test_other_errors_are_raised_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)), reading_list():
        raise error
    assert not POSTGRES.lasts()


@pytest.mark.parametrize(("error", "expected"), [
    (CANCELED, ListTooSlow),
    (Busy(), ListTooSlow),
    (psycopg.OperationalError(), PostgresAway),
    (psycopg.errors.LockNotAvailable(), PostgresAway),
])
def test_a_list_may_also_take_too_long(
    error: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected), reading_list():
        raise error
    assert POSTGRES.lasts() == (expected is PostgresAway)
    POSTGRES.worked()


@pytest.mark.parametrize("error", [
    PostgresAway("no route"), psycopg.OperationalError("no route"),
])
def test_a_command_says_that_postgres_is_away(error: Exception) -> None:
    with (
        pytest.raises(CommandError, match="can't be reached: no route"),
        needing_postgres(),
    ):
        raise error

"""The pool: connections that the server has ended, and those it has not."""

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from apps.core.database import (
    Connection,
    _has_ended,
    connection_arguments,
    pool,
)

pytestmark = pytest.mark.usefixtures("new_pool")


def test_a_connection_that_the_server_has_ended_is_not_used() -> None:
    with psycopg.connect(
        **connection_arguments(), autocommit=True
    ) as other, pool().connection() as connection:
        assert not _has_ended(connection)
        pid = connection.info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert _has_ended(connection)


def test_a_quiet_connection_is_used_without_a_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Connection] = []
    monkeypatch.setattr(ConnectionPool, "check_connection", asked.append)
    for _ in range(3):
        with pool().connection() as connection:
            connection.execute("SELECT 1")
    assert not asked

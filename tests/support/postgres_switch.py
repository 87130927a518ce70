"""Taking Postgres away from the timers' own statements."""

from typing import Any

import pytest

from apps.core import database
from tests.support.ports import free_port


class PostgresSwitch:
    """Postgres as the timers see it: there, or a port nobody listens on."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()

    def goes_away(self) -> None:
        """Have every statement fail from now on."""
        there = database.connection_arguments()
        gone: dict[str, Any] = {
            **there, "host": "127.0.0.1", "port": str(free_port())
        }
        self._patch.setattr(database, "connection_arguments", lambda: gone)
        database.close_pool()

    def comes_back(self) -> None:
        """Have statements work again."""
        self._patch.undo()
        database.close_pool()

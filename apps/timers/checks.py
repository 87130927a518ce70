"""Refuses a Postgres that may forget what it has confirmed."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

# A 201 means that the row survives a power failure. Each of these settings
# breaks that when it is off, and no test that kills processes could tell.
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


@register(Tags.database)
def postgres_is_durable(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return an error for each durability setting that is off."""
    errors: list[CheckMessage] = []
    for alias in databases or ():
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT name FROM pg_settings"
                " WHERE name = ANY(%s) AND setting = 'off'",
                [list(_DURABLE)],
            )
            errors += [
                Error(
                    f"Postgres has {name} = off: a timer that was answered"
                    " 201, or one that was fired, could be forgotten.",
                    hint=f"Set {name} = on in postgresql.conf.",
                    id="timers.E001",
                )
                for (name,) in cursor.fetchall()
            ]
    return errors

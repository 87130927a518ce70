"""`manage.py migrate`: Django's own, beside traffic and other migrations."""

import time
from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections

from apps.core.commands import needing_postgres
from apps.core.database import connect
from apps.core.fitness import unfit
from apps.timers.storage import migrating


class Command(migrate.Command):
    """Migrate, one at a time, and don't make requests wait for long."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what Django does; repeat it while a lock is in the way."""
        if options["plan"] or options["check_unapplied"]:
            super().handle(*args, **options)
            return
        _refuse_unfit()
        with (
            migrating.alone(self._say),
            migrating.watched(self._say),
            migrating.careful(connections[options["database"]]),
        ):
            for _ in range(migrating.TRIES):
                if self._has_migrated(*args, **options):
                    return
                time.sleep(migrating.PAUSE_SECONDS)
        raise CommandError(
            "a table could not be locked: end what has used it all this time,"
            " and migrate again."
        )

    def _has_migrated(self, *args: Any, **options: Any) -> bool:
        try:
            super().handle(*args, **options)
        except OperationalError as error:
            if not migrating.had_to_wait(error):
                raise
            self._say("a table is in use; others go first, then again")
            return False
        return True

    def _say(self, sentence: str) -> None:
        self.stderr.write(f"migrate: {sentence}")


def _refuse_unfit() -> None:
    with needing_postgres(), connect() as connection:
        reason = unfit(connection)
    if reason is not None:
        raise CommandError(f"This database can't serve: {reason}.")

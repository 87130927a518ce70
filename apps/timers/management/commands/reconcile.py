"""`manage.py reconcile`: after a restore, end what may have been called."""

from datetime import datetime
from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
)

from apps.accounts.authors import author_of_command
from apps.accounts.log import LoggedChange
from apps.core.commands import needing_postgres
from apps.timers import moments
from apps.timers.explain.words import moment
from apps.timers.storage import holding, reconciling
from apps.timers.storage.reconciling import Due


class Command(BaseCommand):
    """End as unknown what was due since the backup; count first."""

    help = (
        "After a restore: end as `unknown` the timers that were due before a"
        " moment and have not ended, since they may have been called after"
        " the backup. Without --yes it only counts them. Calls must be held."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the moment, and the consent."""
        parser.add_argument(
            "--fired-before", required=True, metavar="MOMENT",
            help="when the lost service had made its last call, or later, in"
            " RFC 3339, such as 2026-12-24T18:00:00Z",
        )
        parser.add_argument(
            "--yes", action="store_true", help="end them; else only count"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Count, and with --yes end them."""
        before = _moment(options["fired_before"])
        with needing_postgres():
            self._reconcile(before, is_meant=options["yes"])

    def _reconcile(self, before: datetime, *, is_meant: bool) -> None:
        _check_held("")
        due = reconciling.count(before)
        if before > due.now:
            raise CommandError(
                f"--fired-before is in the future: Postgres's clock says"
                f" {moment(due.now)}. What is due by then was not called yet."
            )
        self.stdout.write(_count(due, before))
        if due.under_way:
            raise CommandError(
                f"{due.under_way} of them are claimed: they end, or their"
                " claims do, within a minute. Then run this again."
            )
        if not is_meant:
            self.stdout.write("Nothing was changed. Add --yes to end them.")
            return
        logged = LoggedChange(
            author_of_command("reconcile"), "reconcile",
            f"timers due before {moment(before)}",
        )
        ended = reconciling.end(before, logged)
        _check_held(f" {ended} timers were ended until then.")
        left = reconciling.count(before).to_end
        self.stdout.write(
            f"Ended as unknown: {ended}. GET /timers?status=unknown lists"
            " them, and each can be replayed."
        )
        if left:
            raise CommandError(
                f"{left} could not be ended; the log says why. They are called"
                " after `manage.py release`."
            )


def _moment(text: str) -> datetime:
    try:
        return moments.parse(text, None)
    except moments.InvalidMoment as error:
        raise CommandError(f"--fired-before {error}") from None


def _check_held(more: str) -> None:
    if holding.current() is None:
        raise CommandError(
            "Calls are not held: a worker may call a timer before it is"
            f" ended here. Run `manage.py hold` first.{more}"
        )


def _count(due: Due, before: datetime) -> str:
    found = (
        f"Due before {moment(before)}, and not ended: {due.to_end} timers,"
        " which end as unknown and are not called;"
        f" {due.to_call} that ask for at_least_once, which are called (again)"
        " after the hold."
    )
    if due.first_due and due.last_due:
        found += (
            f" The first was due at {moment(due.first_due)}, the last at"
            f" {moment(due.last_due)}."
        )
    return found

"""`manage.py hold`: from now on no timer is called."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.accounts.authors import author_of_command
from apps.accounts.log import LoggedChange
from apps.core.commands import needing_postgres
from apps.timers.explain.words import moment
from apps.timers.storage import holding


class Command(BaseCommand):
    """Hold all calls until `manage.py release`."""

    help = (
        "Hold all calls: no process claims a timer until `manage.py release`."
        " Timers can be set and changed meanwhile; calls under way end. It"
        " also works while no process runs, and lasts over restarts."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the reason."""
        parser.add_argument(
            "--reason", help="why; /readyz and explanations show it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Hold, and say since when, and what goes on."""
        reason = options["reason"]
        why = f": {reason}" if reason else ""
        logged = LoggedChange(author_of_command("hold"), "hold", f"calls{why}")
        with needing_postgres():
            begun = holding.hold(reason, logged)
        hold = begun.hold
        why = f" ({hold.reason})" if hold.reason else ""
        self.stdout.write(
            f"All calls are held since {moment(hold.since)}{why}."
            f" Under way, and not held: {begun.under_way}."
        )
        if begun.writers:
            pids = ", ".join(map(str, begun.writers))
            self.stderr.write(
                "These sessions of Postgres have been writing timers since"
                f" before the hold, and could still claim some: {pids}. End"
                " them, or run this again until it does not say so."
            )

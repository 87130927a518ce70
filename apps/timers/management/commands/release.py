"""`manage.py release`: timers are called again."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.accounts.authors import author_of_command
from apps.accounts.log import LoggedChange
from apps.core.commands import needing_postgres
from apps.timers.explain.words import moment
from apps.timers.storage import holding, queueing


class Command(BaseCommand):
    """End the hold."""

    help = "End the hold of `manage.py hold`: what is overdue is called now."

    def handle(self, *args: Any, **options: Any) -> None:
        """Release, and say what is called now."""
        logged = LoggedChange(
            author_of_command("release"), "release", "calls"
        )
        with needing_postgres():
            overdue, _ = queueing.count_near()
            hold = holding.release(logged)
        if hold is None:
            self.stdout.write("Calls are not held.")
            return
        self.stdout.write(
            f"Calls were held since {moment(hold.since)}, and go on now:"
            f" {overdue} timers are overdue."
        )

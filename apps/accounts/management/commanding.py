"""What the commands `accounts` and `api_keys` have in common."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts.verifying import Unavailable


class ActionsCommand(BaseCommand):
    """A command that has an action as its first argument."""

    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the arguments say."""
        try:
            self.act(**options)
        except Unavailable as error:
            raise CommandError(
                f"Postgres can't be reached: {error.__cause__}"
            ) from None

    def act(self, action: str, **options: Any) -> None:
        """Do an action; Unavailable says that Postgres is away."""
        raise NotImplementedError

    def write_list(
        self,
        found: Sequence[Any],
        line: Callable[[Any], str],
        *,
        as_json: bool,
    ) -> None:
        """Write rows as a JSON array, or a line for each."""
        if as_json:
            rows = [asdict(each) for each in found]
            self.stdout.write(json.dumps(rows, default=datetime.isoformat))
            return
        for each in found:
            self.stdout.write(line(each))


def add_list(actions: Any, what: str) -> None:
    """Add the action `list`."""
    parser: ArgumentParser = actions.add_parser(
        "list", help=f"list all {what}"
    )
    parser.add_argument("--json", action="store_true", help="as a JSON array")

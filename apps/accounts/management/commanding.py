"""What the commands `accounts` and `api_keys` have in common."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand

from apps.core.commands import needing_postgres


class ActionsCommand(BaseCommand):
    """A command that has an action as its first argument."""

    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the arguments say."""
        with needing_postgres():
            self.act(**options)

    def act(self, action: str, **options: Any) -> None:
        """Do an action. May raise PostgresAway."""
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

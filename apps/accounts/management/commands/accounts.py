"""`manage.py accounts`: who may own timers."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts import services
from apps.accounts.verifying import Unavailable


class Command(BaseCommand):
    """Create accounts, and list them."""

    help = "Create an account, or list all of them."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add one parser for each thing that can be done."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create an account")
        create.add_argument(
            "name", help="1 to 64 of a-z, 0-9, `.`, `_` and `-`"
        )
        lists = actions.add_parser("list", help="list all accounts")
        lists.add_argument(
            "--json", action="store_true", help="as a JSON array"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the arguments say."""
        try:
            if options["action"] == "create":
                self._create(options["name"])
            else:
                self._list(options["json"])
        except Unavailable as error:
            raise CommandError(
                f"Postgres can't be reached: {error.__cause__}"
            ) from None

    def _create(self, name: str) -> None:
        if not services.NAME.fullmatch(name):
            raise CommandError(
                "A name has 1 to 64 of a-z, 0-9, `.`, `_` and `-`, and begins"
                " with a letter or a digit."
            )
        account = services.create_account(name)
        if account is None:
            raise CommandError(f"There is an account {name} already.")
        self.stdout.write(f"Created account {name} (id {account.id}).")

    def _list(self, as_json: bool) -> None:
        found = services.list_accounts()
        if as_json:
            rows = [asdict(each) for each in found]
            text = json.dumps(rows, default=datetime.isoformat)
            self.stdout.write(text)
            return
        for each in found:
            self.stdout.write(
                f"{each.id:>4}  {each.name}  since"
                f" {each.created_at:%Y-%m-%d %H:%M}"
            )

"""`manage.py accounts`: who may own timers."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from apps.accounts import services
from apps.accounts.authors import author_of_command
from apps.accounts.management.commanding import ActionsCommand, add_list
from apps.accounts.storage import Account


class Command(ActionsCommand):
    """Create accounts, and list them."""

    help = "Create an account, or list all of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add one parser for each thing that can be done."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create an account")
        create.add_argument(
            "name", help="1 to 64 of a-z, 0-9, `.`, `_` and `-`"
        )
        add_list(actions, "accounts")

    def act(self, action: str, **options: Any) -> None:
        """Do what the arguments say."""
        if action == "create":
            self._create(options["name"])
        else:
            self.write_list(
                services.list_accounts(), _line, as_json=options["json"]
            )

    def _create(self, name: str) -> None:
        if not services.NAME.fullmatch(name):
            raise CommandError(
                "A name has 1 to 64 of a-z, 0-9, `.`, `_` and `-`, and begins"
                " with a letter or a digit."
            )
        account = services.create_account(
            name, author_of_command("accounts create")
        )
        if account is None:
            raise CommandError(f"There is an account {name} already.")
        self.stdout.write(f"Created account {name} (id {account.id}).")


def _line(account: Account) -> str:
    since = f"{account.created_at:%Y-%m-%d %H:%M}"
    return f"{account.id:>4}  {account.name}  since {since}"

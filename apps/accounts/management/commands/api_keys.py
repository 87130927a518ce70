"""`manage.py api_keys`: the keys by which requests belong to accounts."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from apps.accounts import services, storage
from apps.accounts.authors import author_of_command
from apps.accounts.management.arguments import account_named, moment
from apps.accounts.management.commanding import ActionsCommand, add_list
from apps.accounts.scopes import SCOPES
from apps.accounts.storage import ApiKey
from apps.core.remembered import LIFETIME


class Command(ActionsCommand):
    """Create keys, list them, and revoke them."""

    help = "Create an API key, list all of them, or revoke one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add one parser for each thing that can be done."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser(
            "create", help="create a key and print it; it is shown only once"
        )
        create.add_argument("--account", required=True, help="whose it is")
        create.add_argument(
            "--scopes", required=True, type=_scopes, metavar="SCOPE,…",
            help=f"what it may do: {', '.join(SCOPES)}",
        )
        create.add_argument(
            "--expires", type=moment, metavar="MOMENT",
            help="when it ends, such as 2027-01-31T12:00:00Z; default: never",
        )
        add_list(actions, "keys")
        revoke = actions.add_parser(
            "revoke",
            help=f"revoke a key: it is refused within {LIFETIME:g} s",
        )
        revoke.add_argument(
            "prefix", help="what stands between the key's underscores"
        )

    def act(self, action: str, **options: Any) -> None:
        """Do what the arguments say."""
        if action == "create":
            self._create(**options)
        elif action == "list":
            self.write_list(
                services.list_keys(), _line, as_json=options["json"]
            )
        else:
            self._revoke(options["prefix"])

    def _create(
        self, account: str, scopes: list[str], expires: datetime | None,
        **others: Any,
    ) -> None:
        owner = account_named(account)
        try:
            key = services.create_key(
                owner, scopes, expires, author_of_command("api_keys create")
            )
        except storage.TooManyKeys:
            raise CommandError(
                f"The account has {storage.MOST_KEYS:,} keys; revoke some."
            ) from None
        self.stdout.write(key)

    def _revoke(self, prefix: str) -> None:
        author = author_of_command("api_keys revoke")
        if not services.revoke_key(prefix, None, author):
            raise CommandError(f"There is no key with the prefix {prefix!r}.")
        self.stdout.write(f"Revoked {prefix}.")


def _line(key: ApiKey) -> str:
    scopes = ",".join(key.scopes)
    return f"{key.prefix}  {key.account}  {scopes}  {_state(key)}"


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    used = "never used"
    if key.last_used_at is not None:
        used = f"last used {key.last_used_at:%Y-%m-%d %H:%M}"
    if key.expires_at is not None:
        used += f", expires {key.expires_at:%Y-%m-%d %H:%M}"
    return used


def _scopes(text: str) -> list[str]:
    found = [scope.strip() for scope in text.split(",")]
    if not set(found) <= SCOPES.keys():
        raise ArgumentTypeError(
            f"scopes are {', '.join(SCOPES)}, with commas between them"
        )
    return found

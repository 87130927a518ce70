"""`manage.py api_keys`: the keys by which requests belong to accounts."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts import services, storage
from apps.accounts.access import SCOPES
from apps.accounts.management.arguments import account_named, moment
from apps.accounts.storage import ApiKey
from apps.accounts.verifying import LIFETIME, Unavailable


class Command(BaseCommand):
    """Create keys, list them, and revoke them."""

    help = "Create an API key, list all of them, or revoke one."
    requires_system_checks = ()

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
        lists = actions.add_parser("list", help="list all keys")
        lists.add_argument(
            "--json", action="store_true", help="as a JSON array"
        )
        revoke = actions.add_parser(
            "revoke",
            help=f"revoke a key: it is refused within {LIFETIME:g} s",
        )
        revoke.add_argument(
            "prefix", help="what stands between the key's underscores"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the arguments say."""
        try:
            if options["action"] == "create":
                self._create(**options)
            elif options["action"] == "list":
                self._list(options["json"])
            else:
                self._revoke(options["prefix"])
        except Unavailable as error:
            raise CommandError(
                f"Postgres can't be reached: {error.__cause__}"
            ) from None

    def _create(
        self, account: str, scopes: list[str], expires: datetime | None,
        **others: Any,
    ) -> None:
        owner = account_named(account)
        try:
            key = services.create_key(owner, scopes, expires)
        except storage.TooManyKeys:
            raise CommandError(
                f"The account has {storage.MOST_KEYS:,} keys; revoke some."
            ) from None
        self.stdout.write(key)

    def _list(self, as_json: bool) -> None:
        found = services.list_keys()
        if as_json:
            rows = [asdict(each) for each in found]
            text = json.dumps(rows, default=datetime.isoformat)
            self.stdout.write(text)
            return
        for each in found:
            self.stdout.write(
                f"{each.prefix}  {each.account}  {','.join(each.scopes)}"
                f"  {_state(each)}"
            )

    def _revoke(self, prefix: str) -> None:
        if not services.revoke_key(prefix):
            raise CommandError(f"There is no key with the prefix {prefix!r}.")
        self.stdout.write(f"Revoked {prefix}.")


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

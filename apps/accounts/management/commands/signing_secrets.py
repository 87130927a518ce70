"""`manage.py signing_secrets`: what signs the calls of accounts."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any, get_args

from django.core.management.base import CommandError

from apps.accounts import signing
from apps.accounts.authors import author_of_command
from apps.accounts.management.arguments import account_named, moment
from apps.accounts.management.commanding import ActionsCommand, add_list
from apps.accounts.signing import Kind
from apps.accounts.signing_storage import (
    MOST_SECRETS,
    SigningSecret,
    TooManySecrets,
)
from apps.core.remembered import LIFETIME


class Command(ActionsCommand):
    """Create signing secrets, list them, and revoke them."""

    help = "Create a signing secret, list all that sign, or revoke one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add one parser for each thing that can be done."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser(
            "create",
            help="create a secret and print it; it is shown only once",
        )
        create.add_argument("--account", required=True, help="whose it is")
        create.add_argument(
            "--kind", choices=get_args(Kind), default="v1",
            help="v1: HMAC-SHA-256, prints the secret (default); v1a: Ed25519,"
            " prints the public key",
        )
        create.add_argument(
            "--others-end", type=moment, metavar="MOMENT",
            help="until when the account's others of this kind sign as well,"
            " such as 2027-01-31T12:00:00Z; default: until they are revoked",
        )
        add_list(actions, "that sign")
        revoke = actions.add_parser(
            "revoke", help=f"end a secret, within {LIFETIME:g} s"
        )
        revoke.add_argument("id", help="its id, as `list` shows it")
        revoke.add_argument(
            "--at", type=moment, metavar="MOMENT",
            help="until when it signs; default: now",
        )

    def act(self, action: str, **options: Any) -> None:
        """Do what the arguments say."""
        if action == "create":
            self._create(**options)
        elif action == "list":
            self.write_list(
                signing.list_secrets(), _line, as_json=options["json"]
            )
        else:
            self._revoke(options["id"], options["at"])

    def _create(
        self, account: str, kind: Kind, others_end: datetime | None,
        **others: Any,
    ) -> None:
        owner = account_named(account)
        try:
            made = signing.create(
                owner, kind, author_of_command("signing_secrets create"),
                others_end,
            )
        except TooManySecrets:
            raise CommandError(
                f"The account has {MOST_SECRETS} secrets that sign; revoke"
                " some."
            ) from None
        self.stdout.write(made.text)

    def _revoke(self, secret_id: str, ends_at: datetime | None) -> None:
        by = author_of_command("signing_secrets revoke")
        if not signing.revoke(secret_id, by, ends_at=ends_at):
            raise CommandError(
                f"There is no signing secret {secret_id!r} that signs."
            )
        when = "" if ends_at is None else f" It signs until {ends_at}."
        self.stdout.write(f"Revoked {secret_id}.{when}")


def _line(secret: SigningSecret) -> str:
    text = (
        f"{secret.id}  {secret.account}  {secret.kind}"
        f"  since {secret.created_at:%Y-%m-%d %H:%M}"
    )
    if secret.ends_at is not None:
        text += f", until {secret.ends_at:%Y-%m-%d %H:%M}"
    if secret.public_key is not None:
        text += f"  {secret.public_key}"
    return text

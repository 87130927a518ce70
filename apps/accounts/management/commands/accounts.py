"""`manage.py accounts`: who may own timers, and how many."""

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from apps.accounts import services
from apps.accounts.authors import author_of_command
from apps.accounts.limits import NONE, Limits
from apps.accounts.management.commanding import ActionsCommand, add_list
from apps.core.remembered import LIFETIME

#: The largest limit that a column takes.
_MOST = 2**31 - 1
#: Timers are counted while requests wait.
_MOST_OUTSTANDING = 2_000_000
_NO_LIMIT = "none"


@dataclass(frozen=True, slots=True)
class LimitedAccount:
    """An account as it is listed."""

    id: int
    name: str
    created_at: datetime
    limits: Limits


class Command(ActionsCommand):
    """Create accounts, list them, and limit them."""

    help = "Create an account, list all of them, or limit what one may have."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add one parser for each thing that can be done."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create an account")
        create.add_argument(
            "name", help="1 to 64 of a-z, 0-9, `.`, `_` and `-`"
        )
        limits = actions.add_parser(
            "limits",
            help="limit what an account may have, or show its limits",
            description="What is not given stays as it is; `none` is no"
            " limit.",
        )
        limits.add_argument("name")
        for option, what in _OPTIONS.items():
            limits.add_argument(
                f"--{option}", type=_limit, metavar="N", help=what
            )
        add_list(actions, "accounts")

    def act(self, action: str, **options: Any) -> None:
        """Do what the arguments say."""
        if action == "create":
            self._create(options["name"])
        elif action == "limits":
            self._limit(options)
        else:
            self._list(options["json"])

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

    def _limit(self, options: dict[str, Any]) -> None:
        name = options["name"]
        given = {
            field.name: options[field.name] for field in fields(Limits)
            if options[field.name] is not None
        }
        outstanding = given.get("outstanding", _NO_LIMIT)
        if outstanding != _NO_LIMIT and outstanding > _MOST_OUTSTANDING:
            raise CommandError(
                f"--outstanding is {_MOST_OUTSTANDING} at most, or"
                f" {_NO_LIMIT}: timers are counted when a limit is reached."
            )
        try:
            limits = services.change_limits(name, {
                field: None if value == _NO_LIMIT else value
                for field, value in given.items()
            }, author_of_command("accounts limits"))
        except services.BurstAlone:
            raise CommandError(
                "--burst needs --creates-per-second."
            ) from None
        if limits is None:
            raise CommandError(
                f"There is no account {name}; `manage.py accounts create"
                f" {name}` creates it."
            )
        since = f" Held {LIFETIME:g} s from now." if given else ""
        self.stdout.write(f"{name}: {_shown(limits)}.{since}")

    def _list(self, as_json: bool) -> None:
        limits = services.list_limits()
        found = [
            LimitedAccount(
                each.id, each.name, each.created_at,
                limits.get(each.id, NONE),
            )
            for each in services.list_accounts()
        ]
        self.write_list(found, _line, as_json=as_json)


def _line(account: LimitedAccount) -> str:
    since = f"{account.created_at:%Y-%m-%d %H:%M}"
    return (
        f"{account.id:>4}  {account.name}  since {since}"
        f"  {_shown(account.limits)}"
    )


_OPTIONS = {
    "outstanding": "timers that have not ended, at most",
    "creates-per-second": "timers that it may set a second, on average",
    "burst": "timers that it may set at once, after a pause; default: as many"
    " as a second",
    "body-bytes": "bytes of a request that sets or changes a timer, at most",
}


def _limit(text: str) -> int | str:
    if text == _NO_LIMIT:
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST:
        return int(text)
    raise ArgumentTypeError(
        f"must be a whole number from 1 to {_MOST}, or {_NO_LIMIT}"
    )


def _shown(limits: Limits) -> str:
    found = [
        f"{name.replace('_', '-')} {value}"
        for name, value in asdict(limits).items() if value is not None
    ]
    return ", ".join(found) or "no limits"

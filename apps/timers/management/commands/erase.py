"""`manage.py erase`: what timers called and were answered, and their names."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
)

from apps.accounts.authors import author_of_command
from apps.accounts.management.arguments import account_named
from apps.core.commands import needing_postgres
from apps.core.reaching import ListTooSlow
from apps.timers import erasing
from apps.timers.storage.records import StoredTimer

#: How many timers are named that have not ended.
_MOST_NAMED = 20


class Command(BaseCommand):
    """Erase timers of an account, by a label or by their ids."""

    help = (
        "Erase what timers called (headers, body, the URL's path and query),"
        " what was answered, their keys and labels. Ids, hosts, times and"
        " outcomes stay. Timers that have not ended are named, and then"
        " nothing is erased, unless --cancel is given."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add which timers, whose, and how."""
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "--label", type=_label, metavar="NAME:VALUE",
            help="those with this label, such as user:17",
        )
        which.add_argument(
            "--id", type=UUID, action="append", metavar="ID",
            help="this one; may stand several times",
        )
        parser.add_argument(
            "--account", default="default", help="whose they are"
        )
        parser.add_argument(
            "--cancel", action="store_true", help="first cancel what waits"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only count"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Count, then erase."""
        try:
            with needing_postgres():
                self._erase(account_named(options["account"]), options)
        except ListTooSlow:
            raise CommandError(
                "Postgres did not find the timers in time; try again."
            ) from None

    def _erase(self, account: int, options: dict[str, Any]) -> None:
        found, living = 0, []
        for page in _pages(account, options):
            found += len(page)
            living += erasing.living(page)
        self.stdout.write(
            f"Found: {found:,} timers, {len(living):,} of which have not"
            " ended."
        )
        if options["dry_run"]:
            self.stdout.write("Nothing was changed.")
            return
        if living and not options["cancel"]:
            raise CommandError(
                f"{_names(living)} have not ended. Nothing was erased. Add"
                " --cancel to cancel them first."
            )
        by = replace(author_of_command("erase"), account=account)
        erased, left = 0, []
        for page in _pages(account, options):
            done, others = erasing.erase(
                by, page, "label" if options["label"] else "id",
                cancels=options["cancel"],
            )
            erased += done
            left += others
        self.stdout.write(f"Erased: {erased:,} timers.")
        if left:
            raise CommandError(
                f"{_names(left)} could not be cancelled: they are being"
                " called, or will be again. Run this again when they have"
                " ended."
            )


def _pages(
    account: int, options: dict[str, Any]
) -> Iterator[list[StoredTimer]]:
    if options["label"]:
        yield from erasing.by_label(account, options["label"])
    else:
        yield erasing.by_ids(account, options["id"])


def _names(timer_ids: list[UUID]) -> str:
    """Return the first ids, and how many more there are."""
    names = ", ".join(map(str, timer_ids[:_MOST_NAMED]))
    more = len(timer_ids) - _MOST_NAMED
    return f"{names} and {more:,} more" if more > 0 else names


def _label(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError
    return name, value

"""`manage.py rotate_encryption`: encrypt what is stored with the first key."""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts import signing
from apps.core.commands import needing_postgres
from apps.core.sealing import PLAIN, KeyRing, ring
from apps.timers.storage import rotating
from apps.timers.storage.rotating import Step

#: How many problems are printed.
_MOST_SHOWN = 20


class Command(BaseCommand):
    """Encrypt headers, bodies, answers and signing secrets anew."""

    help = (
        "Encrypt headers, bodies, answers and signing secrets with the first"
        " of ENCRYPTION_KEYS, also those that are not encrypted. If"
        f" `{PLAIN}` stands first there, they are decrypted. It may run beside"
        " traffic, and again when it was interrupted."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and say how many were written and which can't be read."""
        keys = ring()
        if keys.current is None and not keys.keys:
            raise CommandError(
                "ENCRYPTION_KEYS is not set. To store everything decrypted"
                f" again, keep the keys there and put `{PLAIN},` before them."
            )
        with needing_postgres():
            problems = list(self._rotate(keys))
        for problem in problems[:_MOST_SHOWN]:
            self.stderr.write(problem)
        if problems:
            raise CommandError(
                f"{len(problems):,} could not be read or written, and stay as"
                " they are. Keep their keys in ENCRYPTION_KEYS."
            )

    def _rotate(self, keys: KeyRing) -> Iterator[str]:
        """Do one table after the other; yield what can't be done."""
        how = (
            "Decrypted" if keys.current is None
            else f"Encrypted with the key {keys.current}"
        )
        secrets, problems = signing.renew(keys)
        yield from problems
        self.stdout.write(f"{how}: {secrets:,} signing secrets")
        for name, steps in (
            ("timers", rotating.timers(keys)),
            ("attempts", rotating.attempts(keys)),
        ):
            yield from self._walk(f"{how}: {{:,}} {name}", steps)

    def _walk(self, said: str, steps: Iterator[Step]) -> Iterator[str]:
        done = 0
        for step in steps:
            done += step.done
            yield from step.problems
        self.stdout.write(said.format(done))

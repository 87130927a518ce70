"""What several commands take."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime

from django.core.management.base import CommandError

from apps.accounts import services


def moment(text: str) -> datetime:
    """Take a moment in the future."""
    try:
        found = datetime.fromisoformat(text)
        is_future = found > datetime.now(UTC)
    except (ValueError, TypeError):
        raise ArgumentTypeError(
            "must be a moment with its offset, such as 2027-01-31T12:00:00Z"
        ) from None
    if not is_future:
        raise ArgumentTypeError("must be in the future")
    return found


def account_named(name: str) -> int:
    """Return the id of an account. Raises CommandError or Unavailable."""
    for each in services.list_accounts():
        if each.name == name:
            return each.id
    raise CommandError(
        f"There is no account {name}; `manage.py accounts create {name}`"
        " creates it."
    )

"""What several commands take."""

from argparse import ArgumentTypeError
from datetime import datetime

from django.core.management.base import CommandError

from apps.accounts import services


def moment(text: str) -> datetime:
    """Take a moment in the future."""
    try:
        return services.future_moment(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def account_named(name: str) -> int:
    """Return the id of an account. Raises CommandError or PostgresAway."""
    account = services.account_named(name)
    if account is None:
        raise CommandError(
            f"There is no account {name}; `manage.py accounts create {name}`"
            " creates it."
        )
    return account.id

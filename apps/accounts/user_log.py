"""Users of the admin in the log: who made, changed or deleted which.

Django saves a user in many places: commands, a shell, the page on which users
change their password. It commits at once. So the entry is written before: it
may say what then failed, but there is no change without one.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models.signals import pre_delete, pre_save

from apps.accounts.authors import Author, author_of_process
from apps.accounts.log import LoggedChange

if TYPE_CHECKING:
    from django.contrib.auth.models import User

#: What Django itself stores when somebody logs in: when that was, and the
#: password, if it is to be stored in another way.
_LOG_IN = frozenset({"last_login", "password"})

_author: ContextVar[Author | None] = ContextVar("author", default=None)


@contextmanager
def changing_users(by: Author) -> Iterator[None]:
    """Have the log name this author of what is done to users."""
    token = _author.set(by)
    try:
        yield
    finally:
        _author.reset(token)


def connect() -> None:
    """Log from now on what is done to users."""
    pre_save.connect(_saved, "auth.User")
    pre_delete.connect(_deleted, "auth.User")


def _saved(
    instance: "User",
    using: str,
    update_fields: Collection[str] | None,
    **values: Any,
) -> None:
    if update_fields is None or not _LOG_IN.issuperset(update_fields):
        _log(instance, "create" if instance._state.adding else "change", using)


def _deleted(instance: "User", using: str, **values: Any) -> None:
    _log(instance, "delete", using)


def _log(user: "User", action: str, using: str) -> None:
    by = _author.get() or author_of_process()
    with connections[using].cursor() as cursor:
        LoggedChange(by, action, f"user {user.get_username()}").log(cursor)

"""Accounts with API keys, and requests that send one."""

from collections.abc import Collection
from typing import Any

from django.test import Client

from apps.accounts import keys, services
from apps.accounts.authors import Author
from apps.accounts.keys import new_key
from apps.accounts.scopes import SCOPES
from apps.core.callers import DEFAULT_ACCOUNT

#: Whose timers are that tests make without a key.
OWNER = DEFAULT_ACCOUNT
#: Who makes changes in tests.
AUTHOR = Author(OWNER, operator="a test")


def account(name: str) -> int:
    """Create an account; return its id."""
    made = services.create_account(name, AUTHOR)
    assert made is not None
    return made.id


def key_of(of: int, scopes: Collection[str] = tuple(SCOPES)) -> str:
    """Create a key of an account, by default one that may do everything."""
    return services.create_key(of, list(scopes), None, AUTHOR)


def ask(
    method: str,
    path: str,
    body: object = None,
    *,
    key: str | None = None,
    **headers: str,
) -> Any:
    """Send a request; an error of the server is an answer, too."""
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    given: dict[str, Any] = {} if body is None else {
        "data": body, "content_type": "application/json",
    }
    client = Client(raise_request_exception=False)
    return getattr(client, method.lower())(path, headers=headers, **given)


def with_other_secret(key: str) -> str:
    """Return a key with the same prefix, and another secret."""
    prefix = key[:13]
    start = prefix + new_key()[len(prefix):-6]
    return start + keys._checksum(start)

"""Who sends a request: an account, what it may do, and from where."""

from dataclasses import dataclass

from django.http import HttpRequest

#: The id of the account `default`, which a migration makes.
DEFAULT_ACCOUNT = 1
#: Methods that change nothing (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

#: Not a header's name, which would begin with HTTP_.
_NAME = "timer.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """The account that a request belongs to, by its id.

    key     the prefix of the request's API key, None without one
    scopes  what the caller may do
    user    the name of the user who has logged in, None without one
    """

    account: int
    key: str | None
    scopes: frozenset[str]
    user: str | None = None


def set_caller(request: HttpRequest, caller: Caller) -> None:
    """Note who sends a request, before its endpoint is called."""
    request.META[_NAME] = caller


def caller_of(request: HttpRequest) -> Caller:
    """Return who sends a request."""
    caller: Caller = request.META[_NAME]
    return caller


def account_of(request: HttpRequest) -> int:
    """Return the id of the account that a request belongs to."""
    return caller_of(request).account

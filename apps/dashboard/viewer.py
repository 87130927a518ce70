"""The viewer of a page, and what the viewer may do."""

from dataclasses import dataclass

from django.http import HttpRequest

from apps.core.callers import caller_of


@dataclass(frozen=True, slots=True)
class Viewer:
    """The account whose timers are shown.

    writes   whether pages offer actions; `accounts.access` refuses them
    manages  the same for API keys
    user     the name of the user who has logged in, None without one
    """

    account: int
    writes: bool
    manages: bool
    user: str | None


def viewer(request: HttpRequest) -> Viewer:
    """Return who has sent a request."""
    caller = caller_of(request)
    return Viewer(
        caller.account, "write" in caller.scopes, "admin" in caller.scopes,
        caller.user,
    )

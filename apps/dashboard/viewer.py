"""Who looks at a page, and what that person may do."""

from dataclasses import dataclass

from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Viewer:
    """The account whose timers are shown; `writes`: whether it may act."""

    account: str
    writes: bool


def viewer(request: HttpRequest) -> Viewer:
    """Return who has sent a request. There is one account so far."""
    return Viewer("default", writes=True)

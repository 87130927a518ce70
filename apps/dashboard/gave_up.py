"""The page Gave up: groups of timers that failed alike, to replay."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_GET, require_POST

from apps.accounts.authors import author_of
from apps.core.callers import account_of
from apps.dashboard.pages import page, show
from apps.timers import services
from apps.timers.models import GAVE_UP
from apps.timers.storage.records import StoredTimer, TimerFilter
from apps.webhooks.target import host_of

#: How many of the latest timers are grouped.
MOST = 1_000
#: Groups that are shown, the largest ones.
_SHOWN = 50


@dataclass
class Group:
    """Timers that gave up for the same reason at the same host."""

    kind: str
    host: str
    timers: list[StoredTimer] = field(default_factory=list)

    @property
    def latest(self) -> StoredTimer:
        """The timer that was due last."""
        return self.timers[0]

    @property
    def earliest(self) -> StoredTimer:
        """The timer that was due first."""
        return self.timers[-1]


@require_GET
@page
def gave_up(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    timers, after = _latest(request)
    groups = _groups(timers)
    return show(
        request,
        "dashboard/gave_up.html",
        groups=groups[:_SHOWN],
        others=len(groups[_SHOWN:]),
        count=len(timers),
        has_more=after,
        done=_digits(request, "replayed"),
        asked=_digits(request, "of"),
    )


def _digits(request: HttpRequest, name: str) -> str | None:
    text = request.GET.get(name, "")
    return text if re.fullmatch("[0-9]{1,4}", text) else None


@require_POST
@page
def replay(request: HttpRequest) -> HttpResponse:
    """Replay the timers of a group; say how many."""
    name = request.POST.get("kind"), request.POST.get("host")
    timers, _ = _latest(request)
    ids = [
        timer.id
        for group in _groups(timers)
        if (group.kind, group.host) == name
        for timer in group.timers
    ]
    others = services.replay_timers(
        author_of(request), ids, "host, kind of error"
    )
    query = urlencode({"replayed": len(ids) - len(others), "of": len(ids)})
    return HttpResponseRedirect(f"/dashboard/gave-up?{query}")


def _latest(request: HttpRequest) -> tuple[list[StoredTimer], bool]:
    """Return the latest timers, and whether there are more."""
    timers, after = services.find_timers(
        account_of(request), TimerFilter(GAVE_UP, latest_first=True), MOST
    )
    return timers, after is not None


def _groups(timers: Iterable[StoredTimer]) -> list[Group]:
    """Return the groups, the largest one first."""
    found: dict[tuple[str, str], Group] = {}
    for timer in timers:
        name = _kind(timer), host_of(timer.url) or "no host"
        found.setdefault(name, Group(*name)).timers.append(timer)
    return sorted(found.values(), key=lambda group: -len(group.timers))


def _kind(timer: StoredTimer) -> str:
    """Say in a few words why a timer gave up."""
    if timer.status != "failed":
        return timer.status
    if timer.status_code is not None:
        return f"answered {timer.status_code}"
    return (timer.error or "failed").partition(":")[0]

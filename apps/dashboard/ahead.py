"""The page Ahead: how many timers are due, and where they come in herds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from apps.core.reaching import list_connection
from apps.dashboard.forecast import Crowd, Workers, lateness, most_at_once
from apps.dashboard.fresh import Fresh
from apps.dashboard.pages import page, show
from apps.dashboard.viewer import viewer
from apps.monitoring import processes
from apps.monitoring.heartbeat import STALE_AFTER
from apps.timers.storage import ahead as storage
from apps.timers.storage.ahead import Due, Herd

#: For how long what was read is shown, in seconds.
_FRESH = 10.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """A herd, and how late the last of it will be, in seconds.

    seconds  how long its host takes; None: it was not called yet
    late     None if that is not known
    at_once  how many calls it has at once if it is alone
    """

    herd: Herd
    seconds: float | None
    late: float | None
    at_once: float | None


@dataclass(frozen=True, slots=True)
class Bars:
    """A chart: what it shows, and a bar for each of its whiles.

    most  the largest of the bars
    """

    title: str
    each: str
    points: Sequence[tuple[str, float]]
    total: int
    most: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows, and when it was read."""

    now: datetime
    charts: Sequence[Bars]
    herds: Sequence[Forecast]
    workers: Workers
    is_sample: bool


@require_GET
@page
def ahead(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    return show(
        request, "dashboard/ahead.html",
        view=fresh(viewer(request).account),
    )


def _view(account: int) -> View:
    with list_connection() as connection:
        found = storage.ahead(connection, account)
        seconds = storage.durations(
            connection, account, {herd.host for herd in found.herds}
        )
        rows = processes.seen(connection)
    threads = [
        row.threads or 0 for row in rows
        if row.role == "worker" and row.seen <= STALE_AFTER
    ]
    workers = Workers(len(threads), sum(threads))
    return View(
        found.now,
        [
            _bars("the next hour", "minute", "%H:%M", found.minutes),
            _bars("the next day", "hour", "%d %b %H:00", found.hours),
            _bars("the next 30 days", "day", "%d %b", found.days),
        ],
        list(_forecasts(found.herds, seconds, workers)),
        workers,
        found.is_sample,
    )


def _bars(title: str, each: str, label: str, dues: Sequence[Due]) -> Bars:
    return Bars(
        title, each,
        [(due.at.strftime(label), due.count) for due in dues],
        sum(due.count for due in dues),
        max(due.count for due in dues),
        all(due.is_exact for due in dues),
    )


def _forecasts(
    herds: Sequence[Herd], seconds: dict[str, float], workers: Workers
) -> Iterator[Forecast]:
    """Yield the herds, in their order."""
    known = [herd for herd in herds if herd.host in seconds]
    late: dict[tuple[datetime, str], float] = {}
    if known and workers.slots:
        first = min(herd.at for herd in known)
        crowds = [
            Crowd(
                (herd.at - first).total_seconds(), herd.host, herd.count,
                seconds[herd.host],
            )
            for herd in known
        ]
        for herd, found in zip(known, lateness(crowds, workers), strict=True):
            late[herd.at, herd.host] = found
    for herd in herds:
        takes = seconds.get(herd.host)
        at_once = None
        if takes is not None and workers.slots:
            at_once = most_at_once(workers, takes)
        yield Forecast(herd, takes, late.get((herd.at, herd.host)), at_once)


#: What the page shows, read at most once in a while.
fresh: Fresh[View] = Fresh(_view, _FRESH)

"""The page Hosts: how the receivers answered in the last hour."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from apps.core.reaching import PostgresAway, list_connection
from apps.dashboard.pages import page, show
from apps.dashboard.templatetags.charts import Point
from apps.dashboard.viewer import viewer
from apps.monitoring import processes
from apps.monitoring.api import readiness
from apps.monitoring.heartbeat import STALE_AFTER
from apps.monitoring.rollups import reading
from apps.monitoring.rollups.reading import HostSums
from apps.timers.storage import overview

#: Hosts on the page, those with the most calls.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Receiver:
    """A host, as the page shows it; durations are in ms.

    under_way  calls now, and their share of all threads, at most 1
    open_for   for how many seconds it has answered nothing, None if it does
    """

    sums: HostSums
    minutes: Sequence[datetime]
    under_way: int
    share: float
    open_for: float | None

    @property
    def rate(self) -> Sequence[Point]:
        """Calls of each minute."""
        return [
            (f"{at:%H:%M}", sums.calls if sums else 0)
            for at, sums in self._minutes()
        ]

    @property
    def lateness(self) -> Sequence[Point]:
        """How late half of the calls of each minute were at most."""
        return [
            (f"{at:%H:%M}", sums.late_ms(0.5) if sums else None)
            for at, sums in self._minutes()
        ]

    @property
    def took(self) -> Sequence[Point]:
        """How long half of the calls of each minute took at most."""
        return [
            (f"{at:%H:%M}", sums.took_ms(0.5) if sums else None)
            for at, sums in self._minutes()
        ]

    @property
    def errors(self) -> Sequence[tuple[str, int]]:
        """What tries came to that were no success, the most frequent first."""
        found = self.sums.total.named_results()
        found.pop("2xx", None)
        return sorted(found.items(), key=lambda each: -each[1])

    @property
    def late(self) -> Mapping[str, float | None]:
        """How late its calls were."""
        total = self.sums.total
        return {"p50": total.late_ms(0.5), "p99": total.late_ms(0.99)}

    @property
    def duration(self) -> Mapping[str, float | None]:
        """How long its calls took."""
        total = self.sums.total
        return {"p50": total.took_ms(0.5), "p99": total.took_ms(0.99)}

    def _minutes(self) -> Iterable[tuple[datetime, reading.Sums | None]]:
        for at in self.minutes:
            yield at, self.sums.minutes.get(at)


@require_GET
@page
def hosts(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    wanted = request.GET.get("host", "").strip().replace("\0", "") or None
    account = viewer(request).account
    if readiness().postgres == "away":
        raise PostgresAway
    with list_connection() as connection:
        found, has_more = reading.hosts(
            connection, account, wanted and wanted.lower(), SHOWN
        )
        calling = overview.calling(connection, account)
        seen = processes.seen(connection)
    alive = [each for each in seen if each.seen <= STALE_AFTER]
    threads = sum(each.threads or 0 for each in alive)
    circuits = _circuits(alive)
    now = timezone.now().replace(second=0, microsecond=0)
    receivers = [
        Receiver(
            each,
            reading.minutes(now),
            under_way := calling.get(each.host, 0),
            min(under_way / threads, 1.0) if threads else 0.0,
            circuits.get(each.host),
        )
        for each in found
    ]
    return show(
        request,
        "dashboard/hosts.html",
        wanted=wanted,
        threads=threads,
        has_more=has_more,
        hosts=receivers,
        hanging=[each for each in receivers if each.open_for is not None],
    )


def _circuits(rows: Iterable[processes.Row]) -> Mapping[str, float]:
    """Return for how many seconds each host has answered nothing."""
    found: dict[str, float] = {}
    for row in rows:
        for host, _port, seconds in row.circuits or ():
            found[host] = max(found.get(host, 0.0), seconds + row.seen)
    return found

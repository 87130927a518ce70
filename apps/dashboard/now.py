"""The page Now: what comes next, what was called, and whether all is well."""

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from apps.core.reaching import PostgresAway, list_connection
from apps.dashboard import numbers
from apps.dashboard.fresh import Fresh, Part
from apps.dashboard.pages import page, show
from apps.dashboard.viewer import viewer
from apps.monitoring import processes
from apps.monitoring.api import Readiness, readiness
from apps.timers.storage import overview
from apps.timers.storage.overview import MOST, Counts

#: Timers in each of the two lists.
_SHOWN = 20
#: For how long what was read is shown, in seconds.
_FRESH = 1.0


@require_GET
@page
def now(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    account = viewer(request).account
    return show(
        request,
        "dashboard/now.html",
        part=fresh(account),
        lateness=numbers.part(account),
    )


@require_GET
@page
def news(request: HttpRequest) -> HttpResponse:
    """Return the part that changes; 304 if it did not."""
    return fresh(viewer(request).account).answer(request)


def _part(account: int) -> Part:
    health = readiness()
    if health.postgres == "away":
        raise PostgresAway
    with list_connection() as connection:
        counts = overview.counts(connection, account)
        values = {
            "coming": overview.coming(connection, account, _SHOWN),
            "ended": overview.ended(connection, account, _SHOWN),
            "processes": processes.seen(connection),
        }
    return Part.of(
        "dashboard/now_part.html",
        {
            **values, "counts": counts, "most": MOST, "health": health,
            "numbers": numbers.fresh(account),
            "sentences": list(_sentences(counts, health)),
        },
    )


def _sentences(counts: Counts, health: Readiness) -> Iterator[str]:
    """Say first what somebody should know."""
    if health.rabbitmq == "away":
        yield "RabbitMQ is away: timers wait in Postgres, and fire late."
    for trouble in health.troubles or ():
        yield f"{trouble[0].upper()}{trouble[1:]}."
    if counts.overdue:
        yield f"{_number(counts.overdue)} should have been called by now."
    if counts.gave_up:
        yield f"{_number(counts.gave_up)} of the last hour gave up."
    if health.status == "ok" and not counts.overdue and not counts.gave_up:
        yield "All is well."


def _number(count: int) -> str:
    if count == 1:
        return "1 timer"
    return f"{count:,}{' or more' * (count >= MOST)} timers"


#: What the page shows, made once a second at most.
fresh: Fresh[Part] = Fresh(_part, _FRESH)

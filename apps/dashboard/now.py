"""The page Now: what comes next, what was called, and whether all is well."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from apps.core.reaching import PostgresAway, list_connection
from apps.dashboard import numbers
from apps.dashboard.fresh import Drawn, Fresh, Part
from apps.dashboard.pages import page, show
from apps.dashboard.templatetags.pages import LONG
from apps.dashboard.viewer import viewer
from apps.monitoring import processes
from apps.monitoring.api import Readiness, readiness
from apps.timers.storage import ahead, overview
from apps.timers.storage.ahead import Asleep
from apps.timers.storage.overview import MOST, Counts

#: Timers in each of the two lists.
_SHOWN = 20
#: For how long what was read is shown, in seconds: on a page that is loaded,
#: and on those that are open, which ask every four seconds. How many timers
#: sleep takes longer to read than the rest.
_FRESH, _NEWS_FRESH, _ASLEEP_FRESH = 1.0, 4.0, 30.0


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
    return fresh(viewer(request).account, _NEWS_FRESH).answer(request)


def _values(account: int) -> dict[str, Any]:
    """Return what is shown, and nothing that passes unseen each second."""
    health = readiness()
    if health.postgres == "away":
        raise PostgresAway
    sleeping = asleep(account)
    with list_connection() as connection:
        counts = overview.counts(connection, account)
        coming = overview.coming(
            connection, account, _SHOWN, has_few=sleeping.is_exact
        )
        ended = overview.ended(connection, account, _SHOWN)
        running = processes.seen(connection)
    return {
        "asleep": sleeping,
        "coming": [replace(each, time_left=0) for each in coming],
        "ended": [replace(each, time_left=0) for each in ended],
        "processes": [
            replace(each, seen=_shown_age(each.seen), good=0.0)
            for each in running
        ],
        "counts": counts, "most": MOST, "health": health,
        "numbers": numbers.fresh(account),
        "sentences": list(_sentences(counts, health)),
    }


def _shown_age(seconds: float) -> float:
    """Return for how long a process was not seen, as it is shown."""
    return 0.0 if seconds < LONG else float(round(seconds))


def _asleep(account: int) -> Asleep:
    with list_connection() as connection:
        return ahead.asleep(connection, account)


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


#: How many timers sleep.
asleep: Fresh[Asleep] = Fresh(_asleep, _ASLEEP_FRESH)
#: What the page shows.
fresh: Fresh[Part] = Fresh(Drawn("dashboard/now_part.html", _values), _FRESH)

"""Numbers of the last hour, day and month, for the page Now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from apps.core.reaching import PostgresAway, list_connection
from apps.dashboard.fresh import Drawn, Fresh
from apps.dashboard.pages import page
from apps.dashboard.templatetags.charts import Point
from apps.dashboard.viewer import viewer
from apps.monitoring.api import readiness
from apps.monitoring.rollups import reading
from apps.monitoring.rollups.reading import LIMITS, Share, Sums

#: For how long what was read is shown, in seconds; it is two seconds old as
#: it is.
_FRESH = 10.0
#: A band's colour, in the order of LIMITS, and that of what was later.
_COLOURS = ("ok", "wait", "warn", "bad")


@dataclass(frozen=True, slots=True)
class OnTime:
    """How many calls of a span were on time.

    bands   what the bar is made of
    within  a limit in ms, and the share of the calls that were no later
    """

    span: str
    calls: int
    bands: Sequence[tuple[str, float, str]]
    within: Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Minute:
    """The calls of a minute, and how late they were, in ms."""

    at: datetime
    calls: int
    p50: float | None
    p99: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the page shows; `rate` is in calls a second."""

    on_time: Sequence[OnTime]
    minutes: Sequence[Minute]
    rate: float

    @property
    def late(self) -> Sequence[Point]:
        """How late 99 of 100 calls of each minute were, at most."""
        return [(f"{each.at:%H:%M}", each.p99) for each in self.minutes]


@require_GET
@page
def lateness(request: HttpRequest) -> HttpResponse:
    """Return the part of the page that shows the last hour; 304 if it may."""
    if readiness().postgres == "away":
        raise PostgresAway
    return part(viewer(request).account).answer(request)


def _numbers(account: int) -> Numbers:
    with list_connection() as connection:
        shares = reading.shares(connection, account)
        minutes = reading.last_hour(connection, account)
    return Numbers(
        [_on_time(share) for share in shares],
        [_minute(at, sums) for at, sums in minutes.items()],
        reading.rate(minutes),
    )


def _values(account: int) -> dict[str, Any]:
    return {"numbers": fresh(account)}


def _on_time(share: Share) -> OnTime:
    if not share.calls:
        return OnTime(share.span, 0, (), ())
    ends = [*share.within, share.calls]
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    names = [*(f"within {limit:,} ms" for limit in LIMITS), "later"]
    return OnTime(
        share.span,
        share.calls,
        [
            (name, size / share.calls, colour)
            for name, size, colour in zip(names, sizes, _COLOURS, strict=True)
        ],
        [
            (limit, count / share.calls)
            for limit, count in zip(LIMITS, share.within, strict=True)
        ],
    )


def _minute(at: datetime, sums: Sums) -> Minute:
    return Minute(
        at, sums.calls, sums.late_ms(0.5), sums.late_ms(0.99), sums.late_ms(1)
    )


#: The numbers of an account.
fresh: Fresh[Numbers] = Fresh(_numbers, _FRESH)
#: The last hour, as the page shows it.
part = Drawn("dashboard/lateness.html", _values)

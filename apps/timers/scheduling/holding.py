"""The operator's hold, as processes that run meet it."""

from apps.core.outages import Outage
from apps.timers.storage import holding
from apps.timers.storage.holding import Hold

HOLD = Outage(
    "the operator holds all calls; timers wait", "the operator's hold is over"
)


def current() -> Hold | None:
    """Return the hold, if there is one; log now and then that there is."""
    hold = holding.current()
    if hold is None:
        HOLD.worked()
    else:
        HOLD.failed()
    return hold

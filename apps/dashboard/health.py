"""Whether all is well, in a few words, for the bar of every page."""

from dataclasses import dataclass

from apps.core.callers import DEFAULT_ACCOUNT
from apps.dashboard.fresh import Fresh
from apps.monitoring.api import Readiness, readiness

#: For how long an answer counts, in seconds.
_FRESH = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """A colour's class, and words."""

    colour: str
    words: str


def words(found: Readiness) -> Health:
    """Say how the service is."""
    if found.postgres != "ok":
        return Health("bad", f"Postgres is {found.postgres}")
    if found.rabbitmq == "away":
        return Health("warn", "RabbitMQ is away: timers wait in Postgres")
    if found.troubles:
        return Health("warn", "; ".join(found.troubles))
    return Health("ok", "all is well")


#: It is made for one account and shown to all, since it is the service's.
_fresh: Fresh[Health] = Fresh(lambda _: words(readiness()), _FRESH)


def health() -> Health:
    """Return how the service is; it is looked at every two seconds."""
    return _fresh(DEFAULT_ACCOUNT)

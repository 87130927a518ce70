"""What the places of a roll-up's arrays stand for.

Rows keep places, so a list of names only grows at its end, and the bounds stay
as they are.
"""

from datetime import timedelta

#: How timers end.
OUTCOMES = ("delivered", "failed", "unknown", "missed", "cancelled")
#: Results of a try: the class of an answer's status, or the kind of failure.
#: The last two kinds belong to workers that died. OTHER stands for any kind
#: that is not listed.
OTHER = "other"
RESULTS = (
    "2xx", "3xx", "4xx", "5xx", OTHER,
    "dns", "blocked", "refused", "connect_timeout", "unreachable", "proxy",
    "tls", "aborted", "timeout", "reset", "stale", "protocol",
    "invalid", "internal", "worker_lost", "unknown",
)  # fmt: skip
#: Upper bounds of the histograms' bands, in milliseconds; the last band has
#: none.
BOUNDS = (
    0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70,
    100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000,
    10_000, 20_000, 50_000, 100_000, 1_000_000, 10_000_000,
)  # fmt: skip
BANDS = len(BOUNDS) + 1


def bound(number: int) -> timedelta:
    """Return a band's upper bound."""
    return timedelta(milliseconds=BOUNDS[number])

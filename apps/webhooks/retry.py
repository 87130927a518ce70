"""When to try again."""

import random
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_LONGEST = 60.0  # seconds
#: The longest pause that a receiver may ask for, in seconds.
MOST_RETRY_AFTER = 3600.0
#: The largest number in a stored policy. The API's limits are lower.
_MOST = 10**9


def backoff(
    failures: int, first: float = 1.0, longest: float = _LONGEST
) -> float:
    """Return the seconds to wait after the n-th failure (n = 1, 2, …).

    They double from `first` up to `longest`. Up to half is taken off at
    random: calls that failed together come back apart.
    """
    return _full(failures, first, longest) * random.uniform(0.5, 1.0)


def _full(failures: int, first: float, longest: float) -> float:
    return min(longest, first * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a timer's failed calls are repeated, as its creator asks.

    max_attempts  calls in all, the first one included
    min_delay     seconds before the second, doubled for each one after it
    max_delay     the most seconds that this doubling leads to
    unanswered    whether a call that left without an answer is repeated, too
    """

    max_attempts: int
    min_delay: int
    max_delay: int
    unanswered: bool

    @classmethod
    def read(cls, value: Any) -> "RetryPolicy":
        """Return the policy that was stored as this JSON object.

        Raises ValueError for any other value.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(value, dict) or sorted(value) != sorted(names):
            raise ValueError(f"retry is no object of {', '.join(names)}")
        numbers = [value[name] for name in names if name != "unanswered"]
        if type(value["unanswered"]) is not bool or not all(
            type(each) is int and 0 <= each <= _MOST for each in numbers
        ):
            raise ValueError("retry has a value of another kind, or too much")
        return cls(**value)

    def delay(self, failures: int, retry_after: float | None) -> float:
        """Return the seconds to wait after the n-th failure (n = 1, 2, …).

        `retry_after` is what the receiver asked for, if it did.
        """
        wait = backoff(failures, self.min_delay, self.max_delay)
        return max(wait, min(retry_after or 0.0, MOST_RETRY_AFTER))

    def longest(self, failures: int) -> float:
        """Return the longest wait after the n-th failure, in seconds.

        Only a receiver that asks for it makes the wait longer.
        """
        return _full(failures, self.min_delay, self.max_delay)


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header (RFC 9110, section 10.2.3).

    It holds seconds or a date. Returns None for anything else. A date
    without a zone is in UTC.
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
        wait = date.replace(tzinfo=date.tzinfo or UTC) - now
    except Exception:  # the parser's failures are of many kinds
        return None
    return max(0.0, wait.total_seconds())

"""When to try again."""

import random

_LONGEST = 60.0  # seconds


def backoff(failures: int) -> float:
    """Return how many seconds to wait after so many failures (1, 2, …).

    Doubling from one second up to a minute, less up to half of it at
    random, so that those who failed together do not come back together.
    """
    full = min(_LONGEST, 2.0 ** min(failures - 1, 6))  # else it overflows
    return full * random.uniform(0.5, 1.0)

"""The clock that a lease is measured on."""

import time

# A lease goes on while a machine is suspended. On Linux CLOCK_MONOTONIC stands
# still then, and CLOCK_BOOTTIME does not. On macOS CLOCK_MONOTONIC does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_clock() -> float:
    """Return seconds on a clock that runs on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)

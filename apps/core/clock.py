"""The clock that a lease is measured on."""

import time

# CLOCK_MONOTONIC stands still while a machine is suspended; a lease does
# not. Where there is no CLOCK_BOOTTIME, time.monotonic() is the best there
# is. (macOS's CLOCK_MONOTONIC runs on.)
_BOOT_TIME = getattr(time, "CLOCK_BOOTTIME", None)


def lease_clock() -> float:
    """Return seconds on a clock that runs on while the machine sleeps."""
    if _BOOT_TIME is None:
        return time.monotonic()
    return time.clock_gettime(_BOOT_TIME)

"""How the pools of connections to Postgres are used."""

from apps.core.database import list_pool, pool
from apps.monitoring.metrics.catalogue import (
    POOL_CONNECTIONS,
    POOL_CONNECTIONS_USED,
    POOL_WAIT,
    POOL_WAITING,
    POOL_WAITS,
)

_POOLS = {"timers": pool, "lists": list_pool}


class Pools:
    """Sets the gauges of this process's pools, and adds to their counters."""

    def __init__(self) -> None:
        #: What each pool had counted when it was last looked at.
        self._last: dict[str, tuple[int, int]] = {}

    def __call__(self) -> None:
        """Look at the pools that were opened."""
        for name, each in _POOLS.items():
            if (opened := each.made()) is not None:
                self._look(name, opened.get_stats())

    def _look(self, name: str, stats: dict[str, int]) -> None:
        size, free = stats["pool_size"], stats["pool_available"]
        POOL_CONNECTIONS.set(size, of=name)
        POOL_CONNECTIONS_USED.set(max(0, size - free), of=name)
        POOL_WAITING.set(stats["requests_waiting"], of=name)
        now = stats.get("requests_queued", 0), stats.get("requests_wait_ms", 0)
        waits, wait_ms = self._last.get(name, (0, 0))
        if now < (waits, wait_ms):  # it was opened anew
            waits, wait_ms = 0, 0
        POOL_WAITS.add(now[0] - waits, of=name)
        POOL_WAIT.add((now[1] - wait_ms) / 1000, of=name)
        self._last[name] = now

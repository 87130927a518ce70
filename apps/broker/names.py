"""The queues, and how many messages a worker takes before they are done."""

#: The queue of due timers, and the queue of overdue timers.
ON_TIME = "timers"
OVERDUE = "timers.overdue"


def prefetch_of(queue_name: str, asked: int) -> int:
    """Return a queue's prefetch, given the one that Dramatiq asks for.

    Dramatiq asks for two messages a thread. Overdue timers get a quarter of
    the threads, at least one, so that a backlog of calls that hang can't
    fill a worker.
    """
    if queue_name == OVERDUE:
        return max(1, asked // 8)
    return asked

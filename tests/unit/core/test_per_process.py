"""One thing a process, however many threads ask for it first."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from apps.core.processes import PerProcess


def test_threads_that_ask_at_once_get_one_thing() -> None:
    # Given something that takes its time to be made
    ready = threading.Barrier(16)

    def make() -> object:
        time.sleep(0.05)
        return object()

    once = PerProcess(make)

    # When many threads need it first
    def ask(_: int) -> object:
        ready.wait(5)
        return once()

    with ThreadPoolExecutor(16) as pool:
        things = set(pool.map(ask, range(16)))

    # Then they have the same, until it is forgotten
    assert len(things) == 1
    assert once.forget() in things
    assert once.forget() is None
    assert once() not in things

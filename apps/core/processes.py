"""Processes: what each has one of, and how they end."""

import gc
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class PerProcess(Generic[T]):
    """Makes a thing at the first call, and returns it at each call.

    With functools.cache, every thread of a first burst would make a
    connection pool, a thread or a TLS context of its own.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return the thing."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def made(self) -> T | None:
        """Return the thing if it was made."""
        with self._lock:
            return self._made[0] if self._made else None

    def forget(self) -> T | None:
        """Return the thing if it was made; the next call makes another."""
        with self._lock:
            return self._made.pop() if self._made else None


def allow_files(count: int) -> None:
    """Let this process have `count` files open, or as many as it may."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if most == resource.RLIM_INFINITY else min(count, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def keep_imports() -> None:
    """Never look for garbage in what is there now, but in all that follows.

    A process that calls gc.disable() before its imports, and this after them,
    starts with a tenth less work. To visit 100,000 objects that stay would
    stop all threads for 40 ms, each time.
    """
    gc.freeze()
    gc.enable()


def stop_once() -> None:
    """Hand a repeated stop signal to its handler only once.

    systemd, `timeout` and some shells send TERM to each process of a group,
    and the master sends its workers another one. Dramatiq's worker takes a
    second one as an order to drop its calls. Granian's worker blocks at the
    third, and so do its requests under way. A handler that sets an Event
    waits for itself for ever if another signal comes while it does that.

    Call this from the main thread before there are others: they inherit the
    block of signals, and one thread takes all signals.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    threading.Thread(
        target=_take_signals, name="stop signals", daemon=True
    ).start()


def _take_signals() -> None:
    heeded = set()
    while True:
        number = signal.sigwait(_STOP_SIGNALS)
        # The handler may be another one later: servers set theirs at start.
        handler = signal.getsignal(number)
        if handler in {signal.SIG_DFL, signal.default_int_handler}:
            os._exit(128 + number)
        if callable(handler) and handler not in heeded:
            heeded.add(handler)
            handler(number, None)


def end_with_parent() -> None:
    """End this process soon after its parent process has ended.

    Dramatiq's workers outlive a killed master, and Granian's workers outlive
    a killed Granian. Nobody would restart or stop them any more.
    """
    master = multiprocessing.parent_process()
    parent = os.getppid()

    def watch() -> None:
        if master is not None:
            master.join()
        else:
            while os.getppid() == parent:
                time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()

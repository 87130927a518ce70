"""How processes end: with their parent, and once however often it is asked."""

import multiprocessing
import os
import resource
import signal
import threading
import time

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def allow_files(count: int) -> None:
    """Let this process have `count` files open, or as many as it may."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if most == resource.RLIM_INFINITY else min(count, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def stop_once() -> None:
    """Hand a repeated stop signal to its handler only once.

    systemd, `timeout` and some shells send TERM to each process of a group,
    and the master sends its workers another one. Dramatiq's worker takes a
    second one as an order to drop its calls. Granian's worker blocks at the
    third, and the requests under way with it. A handler that sets an Event
    waits for itself for ever when another signal comes while it does.

    Call this from the main thread before there are others: they inherit
    that signals are blocked, and one thread takes them all.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    threading.Thread(
        target=_take_signals, name="stop signals", daemon=True
    ).start()


def _take_signals() -> None:
    heeded = set()
    while True:
        number = signal.sigwait(_STOP_SIGNALS)
        # It may be another one later: servers set theirs as they start.
        handler = signal.getsignal(number)
        if handler in {signal.SIG_DFL, signal.default_int_handler}:
            os._exit(128 + number)
        if callable(handler) and handler not in heeded:
            heeded.add(handler)
            handler(number, None)


def end_with_parent() -> None:
    """End this process soon after its parent process has ended.

    Dramatiq's workers outlive a master that was killed, and Granian's a
    Granian that was; nobody would restart or stop them any more.
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

"""How processes end: with their parent, and once, even if told repeatedly."""

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

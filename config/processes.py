"""Processes end when their parent is gone, whatever became of it."""

import multiprocessing
import os
import threading
import time


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

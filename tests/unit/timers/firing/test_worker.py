"""A worker ends when its calls have, not before."""

import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from apps.timers.firing import worker
from apps.timers.firing.worker import WorkerLifecycle


@pytest.mark.parametrize(("takes", "is_awaited"), [(0.3, True), (9, False)])
def test_calls_under_way_are_awaited_whatever_dramatiq_did(
    takes: float, is_awaited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker whose last thread has a call under way
    ends = threading.Event()
    threads = [
        threading.Thread(target=ends.wait, args=(seconds,), daemon=True)
        for seconds in [0.0] * 63 + [takes]
    ]
    for thread in threads:
        thread.start()
    dramatiq_worker: Any = SimpleNamespace(workers=threads)
    broker: Any = None
    closed: list[bool] = []
    monkeypatch.setattr(worker, "_DRAIN", 1.0)
    monkeypatch.setattr(worker, "claims", Mock())
    monkeypatch.setattr(
        worker, "close_pool", lambda: closed.append(threads[-1].is_alive())
    )

    # When it is shut down, and Dramatiq has not waited
    ending = WorkerLifecycle()
    began = time.monotonic()
    ending.before_worker_shutdown(broker, dramatiq_worker)
    ending.after_worker_shutdown(broker, dramatiq_worker)

    # Then the call can still write what came of it, but not for ever
    assert closed == [not is_awaited]
    assert time.monotonic() - began < 5
    ends.set()

"""The limit of any burst: a loop around `requests`' adapter, no queue.

As many processes and threads as the workers have, one connection each.
"""

import itertools
import json
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import requests
from requests.adapters import HTTPAdapter

from tests.load.bench.measures import wait_for
from tests.load.bench.receiver import Receiver
from tests.load.bench.sides import PROCESSES, THREADS


def rate(receiver: Receiver, count: int) -> float:
    """Return how many calls a second the loop makes."""
    receiver.forget()
    context = multiprocessing.get_context("spawn")
    begin = time.time() + 2     # when all of the processes are there
    share = count // PROCESSES
    processes = [
        context.Process(target=_loop, args=(receiver.url, share, begin))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    wait_for(receiver, share * PROCESSES, within=60)
    arrived = [call.arrived for call in receiver.take()]
    return len(arrived) / (max(arrived) - min(arrived))


def _loop(url: str, count: int, begin: float) -> None:
    adapter = HTTPAdapter(pool_maxsize=THREADS)
    # To prepare each would take as long as to send it.
    template = requests.PreparedRequest()
    template.prepare(
        "POST", url, data=_body(), headers={"content-type": "application/json"}
    )
    numbers = itertools.count()

    def send_all() -> None:
        while next(numbers) < count:
            request = template.copy()
            request.body = _body()
            adapter.send(request).close()

    with ThreadPoolExecutor(THREADS) as pool:
        time.sleep(max(0.0, begin - time.time()))
        for _ in range(THREADS):
            pool.submit(send_all)


def _body() -> str:
    """Return a call's body, of the same length each time."""
    when = datetime.now(UTC).isoformat(timespec="microseconds")
    return json.dumps({"id": str(uuid4()), "timestamp": when})

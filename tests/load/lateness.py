"""How late calls arrive: sets timers over the API and receives them.

Run against a service on this machine that may call 127.0.0.1:

    python -m tests.load.lateness http://127.0.0.1:8000 --asleep 20000

Lateness is the receiver's clock at the request's arrival less the time in
the webhook's own payload, so both must be on one machine's clock.
"""

import argparse
import asyncio
import collections
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Receiver:
    """An HTTP server that notes when each timer's call arrived."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.calls: collections.Counter[str] = collections.Counter()
        self.lateness: list[float] = []
        self.last = 0.0

    async def handle(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer requests on one connection until it is closed."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                arrived = time.time()
                lines = head.decode().lower().split("\r\n")
                fields = dict(
                    line.split(": ", 1) for line in lines[1:] if line
                )
                body = await reader.readexactly(int(fields["content-length"]))
                self._note(json.loads(body), arrived)
                await asyncio.sleep(self.delay)
                writer.write(_OK)
        except (
            asyncio.CancelledError,  # the run is over
            asyncio.IncompleteReadError,
            ConnectionError,
        ):
            writer.close()

    def _note(self, payload: dict[str, Any], arrived: float) -> None:
        due = datetime.fromisoformat(payload["timestamp"]).timestamp()
        self.calls[payload["id"]] += 1
        self.lateness.append((arrived - due) * 1000)
        self.last = arrived


class Client:
    """Sets timers over a few kept-alive connections."""

    def __init__(self, base: str) -> None:
        host, _, port = base.removeprefix("http://").partition(":")
        self.address = (host, int(port or 80))
        self.ids: list[str] = []

    async def set_all(
        self, seconds: list[int], url: str, rate: float = 0
    ) -> None:
        """Set one timer for each of the delays; `rate` a second, or all."""
        waiting = collections.deque(seconds)
        began = time.monotonic()
        times = itertools.count()
        if not rate:
            rate = float("inf")

        def pause() -> float:
            return began + next(times) / rate - time.monotonic()

        await asyncio.gather(
            *(self._set(waiting, url, pause) for _ in range(32))
        )

    async def _set(
        self,
        waiting: collections.deque[int],
        url: str,
        pause: Callable[[], float],
    ) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        while waiting:
            await asyncio.sleep(max(0.0, pause()))
            if not waiting:
                break
            body = json.dumps({
                "hours": 0, "minutes": 0, "seconds": waiting.popleft(),
                "url": url,
            }).encode()
            writer.write(
                b"POST /timer HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                b"content-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length: ")[1].split()[0]
            answer = json.loads(await reader.readexactly(int(length)))
            self.ids.append(answer["id"])
        writer.close()


def summary(values: list[float]) -> str:
    """Return least, median, 99th percentile and greatest of the values."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return (
        f"min {ordered[0]:.1f}, p50 {statistics.median(ordered):.1f},"
        f" p99 {p99:.1f}, max {ordered[-1]:.1f} ms"
    )


async def run(options: argparse.Namespace) -> None:
    """Set the timers, wait for their calls, print what was seen."""
    receiver = Receiver(options.receiver_delay)
    server = await asyncio.start_server(
        receiver.handle, "127.0.0.1", 0, backlog=4096
    )
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    if options.asleep:
        began = time.monotonic()
        await Client(options.base).set_all([3600] * options.asleep, url)
        took = time.monotonic() - began
        print(f"{options.asleep} asleep: {options.asleep / took:.0f} set/s")
    client = Client(options.base)
    first, last = options.due
    delays = [random.randint(first, last) for _ in range(options.timers)]
    await client.set_all(delays, url, options.rate)
    until = time.monotonic() + last + options.patience
    while len(receiver.calls) < options.timers and time.monotonic() < until:
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # for calls that come twice
    calls = receiver.calls
    print(
        f"{options.timers} due in {first}-{last} s:"
        f" {len(calls)} called, {sum(calls.values()) - len(calls)} twice,"
        f" {len(set(client.ids) - set(calls))} not called;"
        f" late: {summary(receiver.lateness)}"
    )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="such as http://127.0.0.1:8000")
    parser.add_argument("--asleep", type=int, default=0)
    parser.add_argument("--timers", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0, help="a second")
    parser.add_argument("--due", type=int, nargs=2, default=[1, 8])
    parser.add_argument("--receiver-delay", type=float, default=0.0)
    parser.add_argument("--patience", type=float, default=60.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

"""POST /timers against the real server: memory, and a process that dies."""

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil  # type: ignore[import-untyped]
import pytest

from apps.timers.models import Timer
from tests.support.service import Process, Service
from tests.support.waiting import eventually

URL = "http://127.0.0.1:9/orders/"
HEADERS = {"content-type": "application/x-ndjson"}
CHUNK = 500


def lines(count: int, padding: int = 0) -> Iterator[bytes]:
    """Yield lines in pieces; each has a body of its own."""
    filler = "x" * padding
    for first in range(0, count, CHUNK):
        yield b"".join(
            b"%b\n" % json.dumps({
                "hours": 1, "minutes": 0, "seconds": 0,
                "url": f"{URL}{number}", "body": filler,
            }).encode()
            for number in range(first, min(first + CHUNK, count))
        )


def post(
    service: Service, pieces: Iterator[bytes], **headers: str
) -> tuple[int, list[bytes]]:
    """Send a body, chunked; return the status and the answer's lines."""
    connection = http.client.HTTPConnection(
        service.host, service.port, timeout=60
    )
    connection.request(
        "POST", "/timers", pieces, {**HEADERS, **headers}, encode_chunked=True
    )
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, text.splitlines()


def memory(web: Process) -> int:
    """Return the memory of web's largest process, in MiB."""
    children = psutil.Process(web.pid).children(recursive=True)
    return int(max(each.memory_info().rss for each in children) // 2**20)


@pytest.fixture
def service(web: Service, db_pool: None) -> Service:
    """Return the module's web, on an empty table."""
    return web


@contextlib.contextmanager
def watched(web: Process) -> Iterator[list[int]]:
    """Yield a list whose last number is the most memory that web had."""
    peak = [memory(web)]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            peak.append(max(peak[-1], memory(web)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


def test_a_long_body_is_not_held_in_memory(service: Service) -> None:
    # Given one bad line among 20,000 of 3 KiB each: nearly 64 MiB
    body = list(lines(20_000, padding=3_000))
    body[20] = b"{\n" + body[20]

    # When they are sent
    with watched(service.processes[-1]) as peak:
        status, found = post(service, iter(body))

    # Then the bad line costs itself only, and memory stays small
    assert status == 200
    assert [n for n, line in enumerate(found) if b"errors" in line] == [10_000]
    assert len(found) == 20_001
    assert Timer.objects.count() == 20_000
    assert peak[-1] < 200


def test_a_long_array_takes_its_length_only(service: Service) -> None:
    body = b"".join(lines(10_000, padding=6_400)).strip()

    with watched(service.processes[-1]) as peak:
        status, found = post(
            service,
            iter([b"[", body.replace(b"\n", b","), b"]"]),
            **{"content-type": "application/json"},
        )

    assert status == 200
    assert len(found) == Timer.objects.count() == 10_000
    assert peak[-1] < 200


def test_a_request_that_was_cut_off_is_repeated(service: Service) -> None:
    """Nothing is stored twice, and what was stored keeps its ids."""
    # Given a request during which web is killed
    web = service.processes[-1]
    body = list(lines(4_000))

    def half() -> Iterator[bytes]:
        yield from body[:6]
        eventually(lambda: Timer.objects.count() >= 4 * CHUNK)
        web.kill()
        yield body[6]

    with pytest.raises((OSError, http.client.HTTPException)):
        post(service, half(), **{"Idempotency-Key": "night-7"})
    before = {timer.url: str(timer.id) for timer in Timer.objects.all()}
    assert 4 * CHUNK <= len(before) < 4_000

    # When it is repeated twice
    service.start_web()
    key = {"Idempotency-Key": "night-7"}
    status, found = post(service, iter(body), **key)
    again = post(service, iter(body), **key)

    # Then each line has one timer, the same one each time
    assert (status, found) == again
    assert status == 200
    ids = [json.loads(line)["id"] for line in found]
    assert len(set(ids)) == Timer.objects.count() == 4_000
    assert all(
        ids[int(url.rpartition("/")[2])] == timer_id
        for url, timer_id in before.items()
    )


def test_a_body_that_is_too_long_is_refused(service: Service) -> None:
    piece = b" " * 2**20

    with socket.create_connection((service.host, service.port)) as connection:
        connection.sendall(
            b"POST /timers HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-ndjson\r\n"
            b"Content-Length: %d\r\n\r\n" % (64 * 2**20 + 1)
        )
        assert connection.recv(12) == b"HTTP/1.1 413"
    status, _ = post(service, iter([piece] * 64))
    assert status == 200


def test_a_body_that_was_cut_off_is_408(service: Service) -> None:
    with socket.create_connection((service.host, service.port)) as connection:
        connection.sendall(
            b"POST /timers HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-ndjson\r\n"
            b"Content-Length: 1000\r\n\r\n" + next(lines(1))
        )
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12) in (b"HTTP/1.1 408", b"")
    eventually(lambda: post(service, lines(1))[0] == 200)


def test_others_are_answered_meanwhile(service: Service) -> None:
    """A body that stops comes to an end, and holds nobody up."""
    head = (
        b"POST /timers HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-ndjson\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    with socket.create_connection((service.host, service.port)) as connection:
        connection.sendall(head)
        connection.settimeout(20)
        began = time.monotonic()
        service.set_timers_fast(5, 60, "http://127.0.0.1:9/")

        assert connection.recv(12) == b"HTTP/1.1 408"
        assert 8 < time.monotonic() - began < 15
    assert post(service, lines(1))[0] == 200


def set_once(service: Service, key: str) -> str:
    """Set a timer for a minute, once for its key; return its id."""
    request = urllib.request.Request(
        f"http://{service.host}:{service.port}/timer",
        method="POST",
        data=json.dumps({
            "hours": 0, "minutes": 1, "seconds": 0, "url": URL,
        }).encode(),
        headers={"content-type": "application/json", "idempotency-key": key},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.loads(answer.read())["id"])


@pytest.mark.parametrize(
    "count", [60, pytest.param(500, marks=pytest.mark.load)]
)
def test_a_repeated_request_survives_a_kill_of_web(
    service: Service, count: int
) -> None:
    # Given pairs of requests, each with a key, while web is killed
    web = service.processes[-1]
    ids: dict[int, set[str]] = {number: set() for number in range(count)}

    def is_answered(number: int) -> bool:
        with contextlib.suppress(OSError):
            ids[number].add(set_once(service, f"request {number}"))
            return True
        return False

    def ask_twice(number: int) -> None:
        for _ in range(2):
            eventually(lambda: is_answered(number), every=0.05)

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(ask_twice, number) for number in ids]
        eventually(lambda: sum(map(len, ids.values())) > count / 6)
        web.kill()
        service.start_web()
        for each in running:
            each.result(60)

    # Then each pair is one timer
    assert {len(found) for found in ids.values()} == {1}

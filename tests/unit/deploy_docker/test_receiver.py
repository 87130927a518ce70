"""The receiver of the compose file, as a process."""

import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "receiver.py"


class Running:
    """The receiver on a free port, and its lines."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        assert self._process.stdout
        self._lines = self._process.stdout
        self.port = int(self._lines.readline().rpartition(" ")[2])

    def call(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, 10)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def line(self) -> str:
        return self._lines.readline().rstrip("\n")

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(10)
        finally:
            self._process.kill()
            self._lines.close()


@pytest.fixture
def receiver() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


def test_a_call_is_one_line(receiver: Running) -> None:
    status = receiver.call(
        "POST", "/a?b=c", b'{"id": "7"}', **{"webhook-id": "7"}
    )

    assert status == 200
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d\.\d{3} POST /a\?b=c webhook-id=7 \{"id": "7"\}',
        receiver.line(),
    )


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PURGE"])
def test_every_method_is_answered(receiver: Running, method: str) -> None:
    assert receiver.call(method, "/") == 200
    assert f" {method} / webhook-id=None" in receiver.line()


def test_a_body_cannot_forge_a_line(receiver: Running) -> None:
    receiver.call("POST", "/", b"\n12:00:00.000 POST \x1b[2J\xff")

    assert receiver.line().endswith(r" \n12:00:00.000 POST \x1b[2J" + "\ufffd")


def test_lines_of_many_at_once_stay_apart(receiver: Running) -> None:
    calls = 400
    lines: list[str] = []
    reading = threading.Thread(
        target=lambda: lines.extend(receiver.line() for _ in range(calls))
    )
    reading.start()

    with ThreadPoolExecutor(32) as pool:
        paths = [f"/{number}" for number in range(calls)]
        statuses = list(pool.map(lambda p: receiver.call("POST", p), paths))
    reading.join(30)

    assert statuses == [200] * calls
    assert sorted(line.split()[2] for line in lines) == sorted(paths)


def test_a_connection_without_a_call_is_not_logged(receiver: Running) -> None:
    socket.create_connection(("127.0.0.1", receiver.port), 10).close()

    receiver.call("POST", "/after")

    assert " POST /after " in receiver.line()


def test_it_ends_when_told(receiver: Running) -> None:
    assert receiver.stop() == 0

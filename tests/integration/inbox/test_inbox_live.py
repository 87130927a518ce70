"""Inboxes under the real web server: who waits holds up nobody."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from apps.core import waits
from deploy import commands
from deploy.local.data import can_bind
from tests.support.ports import free_port
from tests.support.processes import listening
from tests.support.service import Process, Service
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def web(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Return a service of which only web runs, with inboxes.

    Some of its environment variables have names like those of headers.
    """
    service = Service(
        tmp_path_factory.mktemp("web"), "", WEBHOOK_TIMEOUT="1"
    )
    service.env["INBOX"] = f"http://127.0.0.1:{service.port}"
    service.env["INBOX_RESET_PORT"] = str(free_port())
    service.start_web(
        HTTP_PROXY="http://me:secret@proxy", HTTP_AUTHORIZATION="Bearer x",
        CONTENT_TYPE="text/strange", CONTENT_LENGTH="9",
    )
    yield service
    service.kill()


def tell(web: Service, name: str, answer: str, seconds: int = 0) -> None:
    """Have an inbox answer so."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)
    connection.request(
        "POST", f"/inbox/{name}/answer",
        f"answer={answer}&seconds={seconds}",
        {"content-type": "application/x-www-form-urlencoded"},
    )
    assert connection.getresponse().status == 302
    connection.close()


def begin(web: Service, name: str, port: int = 0) -> socket.socket:
    """Send a call, and don't wait for its answer."""
    call = socket.create_connection(("127.0.0.1", port or web.port), 10)
    call.sendall(
        f"POST /inbox/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Content-Length: 2\r\n\r\n{}".encode()
    )
    return call


def status(call: socket.socket) -> int:
    """Wait for an answer's head, and return its status."""
    with call.makefile("rb") as answer:
        return int(answer.readline().split()[1])


def test_a_call_has_the_headers_that_were_sent(
    web: Service, db_pool: None
) -> None:
    """And none of web's own environment variables."""
    assert status(begin(web, "headers")) == 200
    _, found = web.request("GET", "/inbox/headers/calls")
    assert found["calls"][0]["headers"] == {
        "host": "127.0.0.1", "content-length": "2",
    }


def test_calls_that_wait_hold_up_nobody(web: Service, db_pool: None) -> None:
    # Given as many calls without an answer as may wait
    tell(web, "a", "never")
    calls = [begin(web, "a") for _ in range(waits.MOST)]
    eventually(
        lambda: len(web.request("GET", "/inbox/a/calls")[1]["calls"]) == 100
    )
    assert web.request("GET", "/inbox/a/calls?after=0")[0] == 200

    # Then one more is answered at once
    def is_refused() -> bool:
        call = begin(web, "a")
        call.settimeout(1.0)
        try:
            return status(call) == 503
        except TimeoutError:  # fewer than MOST had begun to wait
            return False
        finally:
            call.close()

    eventually(is_refused)

    # And so is a program that would wait, and whoever does not wait
    began = time.monotonic()
    assert web.request("GET", "/inbox/b/calls?wait=10")[1]["calls"] == []
    assert web.request("GET", "/livez")[0] == 200
    web.set_timer(60, "http://127.0.0.1:1/")
    assert time.monotonic() - began < 5

    # And the others are answered in the end: nobody waits for ever
    assert {status(call) for call in calls} <= {200, 503}
    for call in calls:
        call.close()
    found = web.request("GET", "/inbox/b/calls?wait=1")
    assert found == (200, {"calls": [], "next": 0})


def test_an_endless_body_ends_with_its_reader(
    web: Service, db_pool: None
) -> None:
    tell(web, "c", "endless")
    for _ in range(waits.MOST + 1):
        call = begin(web, "c")
        assert call.recv(100).startswith(b"HTTP/1.1 200 OK")
        call.close()


def test_a_late_answer_comes_late(web: Service, db_pool: None) -> None:
    tell(web, "d", "late", 1)
    began = time.monotonic()
    call = begin(web, "d")
    # Meanwhile a program sees that the call has come.
    found = web.request("GET", "/inbox/d/calls?wait=10")[1]["calls"]
    assert json.loads(found[0]["body"]) == {}
    assert status(call) == 200
    assert time.monotonic() - began > 0.9
    call.close()


def test_a_call_is_reset(web: Service, db_pool: None) -> None:
    port = int(web.env["INBOX_RESET_PORT"])
    eventually(lambda: not can_bind(port))
    call = begin(web, "e", port)
    with pytest.raises(ConnectionResetError):
        call.recv(1)
    call.close()
    (kept,) = web.request("GET", "/inbox/e/calls")[1]["calls"]
    assert (kept["answer"], kept["body"]) == ("reset", "{}")
    assert kept["headers"] == {"host": "127.0.0.1", "content-length": "2"}


@pytest.fixture
def service(db_pool: None, tmp_path: Path) -> Iterator[Service]:
    """Return a service of which nothing runs yet."""
    made = Service(tmp_path, "")
    yield made
    made.kill()


def test_one_of_two_processes_resets(service: Service, tmp_path: Path) -> None:
    # Given two web processes
    port = free_port()
    service.env["INBOX"] = f"http://127.0.0.1:{service.port}"
    service.env["INBOX_RESET_PORT"] = str(port)
    command = commands.web(service.host, service.port, 2)
    web = service.start("web", *command[1:])
    shares = tmp_path / "heartbeats"
    eventually(lambda: len(list(shares.glob("metrics.web-*"))) == 2)
    eventually(lambda: listens(web, port))

    # When the one that listens is killed
    (first,) = listens(web, port)
    first.kill()

    # Then the one in its place listens
    eventually(lambda: [p for p in listens(web, port) if p != first])
    with pytest.raises(ConnectionResetError):
        begin(service, "f", port).recv(1)
    assert "can't be listened on" not in web.output()


def listens(web: Process, port: int) -> list[psutil.Process]:
    """Return the web processes that listen on a port."""
    return [
        process for process in psutil.Process(web.pid).children()
        if port in {address.port for address in listening(process.pid)}
    ]

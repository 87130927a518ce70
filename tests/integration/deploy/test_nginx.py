"""nginx.conf with a real nginx: what the web processes get to see of it."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy import commands
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
CONFIGURATION = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text()
#: Debian has servers where only root looks for programs.
PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
LIMIT = 512 * 1024

needs_nginx = pytest.mark.skipif(
    PROGRAM is None, reason="nginx is missing: apt-get install nginx-light"
)


class Proxy:
    """A running nginx with the repository's own configuration."""

    def __init__(self, directory: Path, web_port: int) -> None:
        self.port = free_port()
        self._log = directory / "access"
        path = directory / "nginx.conf"
        path.write_text(adapted(directory, self.port, web_port, self._log))
        assert PROGRAM is not None
        own = " user root;" if os.geteuid() == 0 else ""
        self.errors = directory / "errors"
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [PROGRAM, "-e", "stderr", "-c", str(path),
                 "-g", f"daemon off;{own}"],
                stderr=errors,
            )  # fmt: skip
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.errors.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(
        self,
        method: str = "POST",
        path: str = "/timer",
        body: bytes | None = b"{}",
        headers: dict[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request; return the answer's status, headers and body."""
        connection = self.connect()
        sent = iter([body or b""]) if chunked else body
        connection.request(
            method, path, sent, headers or {}, encode_chunked=chunked
        )
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def log_line(self, text: str) -> str:
        """Return the first line of the access log that holds a text."""
        return eventually(
            lambda: next(
                (x for x in self._log.read_text().splitlines() if text in x),
                "",
            )
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def adapted(directory: Path, port: int, web_port: int, log: Path) -> str:
    """Return the configuration with other addresses and paths."""
    text = CONFIGURATION.replace("/tmp/", f"{directory}/")
    for old, new in {
        "web:8000": f"127.0.0.1:{web_port}",
        "listen 8000": f"listen 127.0.0.1:{port}",
        "/dev/stdout": str(log),
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def web(receiver: Receiver) -> Receiver:
    """Return what stands for a web process; it notes what it gets."""
    receiver.status, receiver.answer = 201, b"{}"
    return receiver


def header(web: Receiver, name: str) -> str | None:
    """Return a header of the last request."""
    return web.calls[-1].headers.get(name)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int], Proxy]]:
    """Start nginx before a web process's port."""
    started: list[Proxy] = []

    def run(web_port: int) -> Proxy:
        started.append(Proxy(tmp_path, web_port))
        return started[0]

    yield run
    for proxy in started:
        proxy.stop()


@pytest.fixture
def proxy(start: Callable[[int], Proxy], web: Receiver) -> Proxy:
    return start(web.port)


@needs_nginx
def test_connections_to_web_are_kept(proxy: Proxy, web: Receiver) -> None:
    connection = proxy.connect()
    for _ in range(20):
        connection.request("POST", "/timer", b"{}")
        assert connection.getresponse().read() == b"{}"
    connection.close()

    assert len(web.calls) == 20
    assert web.accepted == 1


def test_nginx_ends_idle_connections_before_web_does() -> None:
    kept = re.search(r"\bkeepalive_timeout (\d+)s;", CONFIGURATION)
    command = commands.web("127.0.0.1", 8000, 1)
    name = "--http1-header-read-timeout"  # which idle ones are ended by
    web = 30_000
    if name in command:
        web = int(command[command.index(name) + 1])

    assert kept
    assert int(kept[1]) * 1000 <= web / 2


@needs_nginx
def test_web_is_told_who_asks_and_by_which_name(
    proxy: Proxy, web: Receiver
) -> None:
    _, answer, _ = proxy.ask(headers={"Host": "timers.example:81"})

    assert header(web, "host") == "timers.example:81"
    assert header(web, "x-forwarded-for") == "127.0.0.1"
    made = str(header(web, "x-request-id"))
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert answer["X-Request-Id"] == made

    _, answer, _ = proxy.ask(
        headers={"X-Request-Id": "a-1.b", "X-Forwarded-For": "192.0.2.7"}
    )

    assert header(web, "x-request-id") == "a-1.b"
    assert answer["X-Request-Id"] == "a-1.b"
    assert header(web, "x-forwarded-for") == "192.0.2.7, 127.0.0.1"


@needs_nginx
@pytest.mark.parametrize("given", ["a b", 'a"b', "a" * 129, "status=200 "])
def test_a_request_id_that_could_forge_a_line_is_replaced(
    proxy: Proxy, web: Receiver, given: str
) -> None:
    proxy.ask(headers={"X-Request-Id": given})

    assert re.fullmatch("[0-9a-f]{32}", str(header(web, "x-request-id")))


@needs_nginx
def test_each_request_is_one_line(proxy: Proxy, web: Receiver) -> None:
    proxy.ask(path="/timer", headers={"X-Request-Id": "first"})
    proxy.ask("GET", '/a%0a"b?secret', None, {"X-Request-Id": "second"})
    proxy.ask(body=b"x" * (LIMIT + 1), headers={"X-Request-Id": "third"})

    line = (
        r'[-\dT:+]+ 127\.0\.0\.1 "POST /timer" status=201 bytes=2 '
        rf"seconds=\d\.\d+ web=127\.0\.0\.1:{web.port} "
        r"web_seconds=\d\.\d+ request_id=first"
    )
    assert re.fullmatch(line, proxy.log_line("=first"))
    assert r'"GET /a%0a\x22b" status=201' in proxy.log_line("=second")
    assert '"POST /timer" status=413' in proxy.log_line("=third")


@needs_nginx
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_has_a_length_and_a_limit(
    proxy: Proxy, web: Receiver, chunked: bool
) -> None:
    whole = b"x" * LIMIT

    assert proxy.ask(body=whole, chunked=chunked)[0] == 201
    status, headers, body = proxy.ask(body=whole + b"x", chunked=chunked)

    assert [call.body for call in web.calls] == [whole]
    assert header(web, "content-length") == str(LIMIT)
    assert status == 413
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert json.loads(body) == {
        "detail": "At most 524288 bytes are read.", "errors": []
    }


@needs_nginx
def test_a_body_of_many_timers_may_be_longer(
    proxy: Proxy, web: Receiver
) -> None:
    whole = b"x" * (64 * 2**20)

    assert proxy.ask(path="/timers?a=b", body=whole)[0] == 201
    status, _, body = proxy.ask(path="/timers", body=whole + b"x")

    assert len(web.calls[0].body) == len(whole)
    assert status == 413
    assert json.loads(body)["detail"] == "At most 67108864 bytes are read."


@needs_nginx
def test_web_sees_a_slow_body_once_it_is_whole(
    proxy: Proxy, web: Receiver
) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as slow:
        slow.sendall(
            b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"
        )
        for _ in range(20):
            proxy.ask(path="/fast")
        assert {call.path for call in web.calls} == {"/fast"}
        slow.sendall(b"cd")
        assert slow.recv(1000).startswith(b"HTTP/1.1 201 ")

    assert (web.calls[-1].path, web.calls[-1].body) == ("/slow", b"abcd")


@needs_nginx
def test_without_web_the_answer_is_the_services_503(
    start: Callable[[int], Proxy],
) -> None:
    proxy = start(free_port())

    status, headers, body = proxy.ask()

    assert (status, headers["Retry-After"]) == (503, "1")
    assert json.loads(body)["detail"].startswith("The service did not answer")


@needs_nginx
@pytest.mark.usefixtures("db_pool")
def test_the_service_works_behind_it(
    start: Callable[[int], Proxy], tmp_path: Path
) -> None:
    service = Service(tmp_path, "")
    try:
        service.start_web()
        proxy = start(service.port)
        body = b'{"hours": 1, "minutes": 0, "seconds": 0, "url": "%s"}'

        connection = proxy.connect()
        for _ in range(3):
            connection.request("POST", "/timer", body % b"http://127.0.0.1/")
            answer = connection.getresponse()
            assert answer.status == 201
            # Both nginx and web give it one.
            assert len(answer.headers.get_all("X-Request-Id", [])) == 1
            timer = json.loads(answer.read())
        status, _, shown = proxy.ask("GET", f"/timer/{timer['id']}", None)
        connection.close()
        many, _, results = proxy.ask(
            path="/timers",
            body=body % b"http://127.0.0.1/" + b"\n",
            headers={"Content-Type": "application/x-ndjson"},
            chunked=True,
        )
    finally:
        service.kill()

    assert status == 200
    assert json.loads(shown)["time_left"] <= 3600
    assert (many, json.loads(results)["time_left"]) == (200, 3600)

"""The API as its real server speaks it: what is refused before it is read."""

import json
import socket
from email.message import Message
from email.parser import BytesParser

import pytest

from tests.support.service import Service

# The test database is made only for tests that say that they need it.
pytestmark = pytest.mark.django_db(transaction=True)

GOOD = json.dumps(
    {"hours": 0, "minutes": 0, "seconds": 60, "url": "https://example.com/"}
).encode()


def exchange(web: Service, request: bytes) -> tuple[int, Message, bytes]:
    """Send bytes and nothing more; return status, headers and body."""
    with socket.create_connection(("127.0.0.1", web.port), 5) as connection:
        connection.settimeout(5)
        connection.sendall(request)
        answer = connection.makefile("rb")
        status = int(answer.readline().split()[1])
        head = b""
        while (line := answer.readline()) not in (b"\r\n", b""):
            head += line
        headers = BytesParser().parsebytes(head)
        length = int(headers["content-length"] or 0)
        return status, headers, answer.read(length)


def head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("length", [524_289, 10**9, 10**17])
def test_a_body_that_is_too_long_is_refused_unread(
    web: Service, length: int
) -> None:
    # Given a client that announces a long body, and never sends it
    request = head("POST", "/timer", f"Content-Length: {length}")

    # Then it has its answer all the same
    status, headers, body = exchange(web, request)
    assert status == 413
    assert headers["content-type"] == "application/json"
    assert "524288" in json.loads(body)["detail"]


def test_bytes_are_taken_as_they_come(web: Service) -> None:
    length = f"Content-Length: {len(GOOD)}"
    status, headers, body = exchange(
        web, head("POST", "/timer", length) + GOOD
    )
    assert status == 201
    assert headers["location"] == f"/timer/{json.loads(body)['id']}"

    bom = b"\xef\xbb\xbf" + GOOD
    length = f"Content-Length: {len(bom)}"
    assert exchange(web, head("POST", "/timer", length) + bom)[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/api/docs", 200),
        ("GET", "/api/openapi.json", 200),
        ("GET", "/static/ninja/swagger-ui.css", 200),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/nothing", 404),
        ("GET", "/%ff%00", 404),
        ("GET", "/timer/5", 422),
        ("GET", "/timer", 405),
        ("POST", "/timer", 400),
        ("OPTIONS", "*", 404),
        ("DELETE", "/livez", 405),
    ],
)
def test_every_answer_says_how_long_it_is(
    web: Service, method: str, path: str, status: int
) -> None:
    found, headers, body = exchange(web, head(method, path))
    assert found == status
    assert headers["transfer-encoding"] is None
    assert len(body) == int(headers["content-length"])
    if status >= 400:
        assert set(json.loads(body)) == {"detail", "errors"}


def test_an_answer_without_a_body_has_neither_length_nor_type(
    web: Service,
) -> None:
    timer = web.set_timer(60, "http://127.0.0.1:9/")
    found, headers, body = exchange(web, head("DELETE", f"/timer/{timer}"))
    assert (found, body) == (204, b"")
    for name in ("content-length", "content-type", "transfer-encoding"):
        assert headers[name] is None


def test_a_foreign_host_is_refused(web: Service) -> None:
    request = head("GET", "/api/docs").replace(b"localhost", b"evil.example")
    status, _, body = exchange(web, request)
    assert status == 400
    assert "ALLOWED_HOSTS" in json.loads(body)["detail"]


def test_nothing_of_this_is_an_error_in_the_log(web: Service) -> None:
    """The server logs what matters, not what clients do wrong."""
    exchange(web, head("GET", "/static/ninja/../../settings.py"))
    output = web.processes[0].output()
    assert "ERROR" not in output
    assert "Traceback" not in output

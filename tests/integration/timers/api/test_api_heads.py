"""HEAD is GET without the body, on the wire."""

import http.client

import pytest

from tests.support.rows import new_timer
from tests.support.service import Service

pytestmark = pytest.mark.usefixtures("db_pool")

LONG = "a" * 9000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/readyz", 200),
        ("/timers", 200),
        ("/timers?limit=0", 422),
        ("/timer/{timer}", 200),
        ("/timer/01a20c15-7e56-7662-8999-262562c78578", 404),
        ("/timer", 405),
        ("/nothing", 404),
        ("/", 200),
        ("/api/docs", 200),
        ("/api/openapi.json", 200),
        ("/static/ninja/swagger-ui-bundle.js", 200),
        (f"/livez?{LONG}", 414),
    ],
    ids=lambda value: str(value)[:24],
)
def test_head_is_get_without_the_body(
    web: Service, path: str, status: int
) -> None:
    path = path.format(timer=new_timer(86_400 * 300))
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=5)
    connection.request("GET", path)
    got = connection.getresponse()
    body = got.read()

    # When the same is asked for with HEAD, twice on one connection
    for _ in range(2):
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert answer.read() == b""

        # Then status and headers are the same, and nothing follows them
        assert (answer.status, got.status) == (status, status)
        for name in ("content-type", "content-length", "allow"):
            assert answer.headers[name] == got.headers[name], name
        assert answer.headers["content-length"] == str(len(body))
    connection.close()

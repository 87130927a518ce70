"""No web page of another site drives the service; programs still do."""

import http.client
import json
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from apps.timers.models import Timer
from tests.support.api import GOOD
from tests.support.service import Service

pytestmark = pytest.mark.usefixtures("db_pool")

HOST = "localhost:8000"
UNSAFE = [
    ("POST", "/timer"),
    ("DELETE", f"/timer/{uuid4()}"),
    ("POST", f"/timer/{uuid4()}/replay"),
    ("POST", "/timers/replay"),
    ("PUT", "/livez"),
]
#: Headers of browsers, and what a refusal says.
FOREIGN = [
    ({"Origin": "https://evil.example"}, "Origin: https://evil.example"),
    ({"Origin": "null"}, "Origin: null"),
    ({"Origin": ""}, "Origin: "),
    ({"Origin": "http://localhost"}, "Origin: http://localhost"),
    ({"Origin": "http://localhost:3000"}, "Origin: http://localhost:3000"),
    ({"Origin": "http://127.0.0.1:8000"}, "Origin: http://127.0.0.1:8000"),
    ({"Origin": "localhost:8000"}, "Origin: localhost:8000"),
    ({"Origin": "file://localhost:8000"}, "Origin: file://"),
    ({"Origin": "http://localhost:8000.evil.example"}, "evil.example"),
    ({"Origin": "http://localhost:8000, http://a.example"}, "a.example"),
    ({"Sec-Fetch-Site": "cross-site"}, "Sec-Fetch-Site: cross-site"),
    ({"Sec-Fetch-Site": "same-site"}, "Sec-Fetch-Site: same-site"),
    ({"Sec-Fetch-Site": "cross-site", "Origin": f"http://{HOST}"}, "Sec-"),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "http://a.example"}, "a.ex"),
]
OWN = [
    {},
    {"Origin": f"http://{HOST}"},
    {"Origin": f"https://{HOST}"},  # a proxy has ended TLS
    {"Origin": "HTTP://LOCALHOST:8000"},
    {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


def ask(
    method: str, path: str, headers: dict[str, str], body: str = ""
) -> Any:
    return Client(raise_request_exception=False).generic(
        method, path, body, "text/plain", headers={"Host": HOST, **headers}
    )


@pytest.mark.parametrize(("headers", "words"), FOREIGN, ids=str)
def test_a_page_of_another_site_changes_nothing(
    headers: dict[str, str], words: str
) -> None:
    for method, path in UNSAFE:
        answer = ask(method, path, headers, json.dumps(GOOD))
        assert answer.status_code == 403, (method, path)
        error = answer.json()
        assert error["errors"] == []
        assert words in error["detail"]
        assert "another site" in error["detail"]
    assert not Timer.objects.exists()


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_the_own_pages_and_programs_do(headers: dict[str, str]) -> None:
    assert ask("POST", "/timer", headers, json.dumps(GOOD)).status_code == 201


def test_a_host_may_have_the_default_port() -> None:
    for host, origin in (
        ("localhost:80", "http://localhost"),
        ("localhost:443", "https://localhost"),
        ("[::1]:80", "http://[::1]"),
    ):
        headers = {"Host": host, "Origin": origin}
        answer = ask("POST", "/timer", headers, json.dumps(GOOD))
        assert answer.status_code == 201, host


def test_whoever_only_looks_may_come_from_anywhere() -> None:
    for headers, _ in FOREIGN:
        for path in ("/livez", "/timers", "/api/docs", "/api/openapi.json"):
            assert ask("GET", path, headers).status_code == 200


def test_a_refusal_repeats_no_more_than_it_must() -> None:
    answer = ask("POST", "/timer", {"Origin": f"http://{'a' * 9000}"})
    assert answer.status_code == 403
    assert len(answer.content) < 500


def test_curl_needs_no_content_type(web: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=5)
    form = "application/x-www-form-urlencoded"
    for headers, status in (
        ({}, 201),
        ({"Content-Type": form, "User-Agent": "curl/8.5.0"}, 201),
        ({"Content-Type": "text/plain", "Origin": "null"}, 403),
        ({"Origin": f"http://127.0.0.1:{web.port}"}, 201),
    ):
        connection.request("POST", "/timer", json.dumps(GOOD), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, headers
    connection.close()


NOTHING = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("/livez", NOTHING),
        ("/readyz", NOTHING),
        ("/timers", NOTHING),
        ("/timer", NOTHING),
        ("/nothing", NOTHING),
        ("/api/openapi.json", NOTHING),
        ("/static/ninja/swagger-ui.css", NOTHING),
        ("/api/docs", "script-src 'self';"),
    ],
)
def test_browsers_are_told_what_an_answer_is_not(
    path: str, policy: str
) -> None:
    answer = ask("GET", path, {})
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert policy in answer["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    refused = Client().get(path, headers={"Host": "evil.example"})
    assert refused["X-Content-Type-Options"] == "nosniff"

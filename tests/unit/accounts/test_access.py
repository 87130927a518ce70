"""Which scope each request needs."""

import pytest

from apps.accounts.access import needed_scope
from apps.accounts.scopes import SCOPES
from config.api import api

OPEN = {("GET", "/livez"), ("GET", "/readyz")}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/", "read"),
        ("GET", "/dashboard/timers", "read"),
        ("POST", "/dashboard/gave-up/replay", "write"),
        ("GET", "/inbox/hello", "read"),
        ("POST", "/inbox/hello/timer", "write"),
        ("GET", "/livez", None),
        ("GET", "/readyz", None),
        ("GET", "/api/docs", None),
        ("GET", "/api/openapi.json", None),
        ("GET", "/static/ninja/swagger-ui.css", None),
        ("GET", "/timer/1", "read"),
        ("HEAD", "/timer/1", "read"),
        ("OPTIONS", "/timer", "read"),
        ("GET", "/livez/", "read"),
        ("GET", "/anything", "read"),
        ("POST", "/timer", "write"),
        ("PATCH", "/timer/1", "write"),
        ("PUT", "/timer/by-key/account", "write"),
        ("DELETE", "/timer/1", "write"),
        ("BREW", "/timer/1", "write"),
        ("GET", "/account", "admin"),
        ("GET", "/account/keys", "admin"),
        ("POST", "/account/anything/new", "admin"),
        ("GET", "/accounts", "read"),
        ("POST", "/timers/erase", "admin"),
        ("POST", "/timers/cancel", "write"),
        ("GET", "/metrics", "metrics"),
    ],
)
def test_a_request_needs(method: str, path: str, scope: str | None) -> None:
    assert needed_scope(method, path) == scope


def test_the_document_says_what_each_operation_needs() -> None:
    for path, operations in api.document["paths"].items():
        for method, described in operations.items():
            operation = method.upper(), path
            scope = needed_scope(*operation)
            refusals = {"401", "403"} & described["responses"].keys()
            if operation in OPEN:
                assert scope is None
                assert "security" not in described
                assert not refusals, operation
            else:
                assert scope in SCOPES
                # The tests' own service also takes requests without a key.
                assert described["security"] == [{"apiKey": [scope]}, {}]
                assert len(refusals) == 2, operation


def test_the_document_describes_how_a_key_is_sent() -> None:
    (scheme,) = api.document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")

"""The page Keys: API keys of the viewer's account, and the log."""

import html
import re
from base64 import b64encode
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from apps.accounts import services, storage, verifying
from apps.accounts.keys import PATTERN
from apps.accounts.log import LoggedChange
from apps.core.database import connect
from tests.support.accounts import AUTHOR, OWNER, account, ask, key_of
from tests.support.postgres_switch import PostgresSwitch
from tests.support.timers import value_of

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")

PATH = "/dashboard/keys"


@pytest.fixture
def required(settings: Settings) -> None:
    settings.REQUIRE_API_KEY = True


def basic(key: str) -> str:
    return f"Basic {b64encode(f'me:{key}'.encode()).decode()}"


def page(key: str | None = None, query: str = "", status: int = 200) -> str:
    headers = {} if key is None else {"authorization": basic(key)}
    answer = ask("GET", f"{PATH}{query}", **headers)
    assert answer.status_code == status
    return str(answer.content.decode())


def post(path: str, form: dict[str, Any], key: str | None = None) -> Any:
    """Send a form, as a browser does."""
    headers = {} if key is None else {"authorization": basic(key)}
    return Client().post(f"{PATH}{path}", form, headers=headers)


def words(text: str) -> str:
    """Return what a page says."""
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text)))


def rows(text: str) -> set[str]:
    """Return the prefixes of the keys that are listed."""
    return set(re.findall(r'<tr id="key-(\w+)"', text))


@pytest.mark.usefixtures("required")
def test_an_admin_makes_a_key_that_is_shown_once_and_revokes_it() -> None:
    of = account("team")
    admin = key_of(of, ["admin", "read"])
    mine = admin.split("_")[1]
    assert rows(page(admin)) == {mine}
    assert "(yours)" in words(page(admin))

    # When a key is made by the form
    form = {"scopes": ["read", "write"], "expires": "2099-01-31T12:00"}
    answer = post("/new", form, admin)
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    found = PATTERN.search(answer.content.decode())
    assert found
    assert ask("GET", "/timers", key=found[0]).status_code == 200

    # Then it stands there without its secret from now on
    again = page(admin)
    assert found[2] not in again
    assert rows(again) == {mine, found[1]}
    text = words(again)
    assert "read, write" in text
    assert "2099-01-31 12:00:00 UTC" in text
    assert f"create key {found[1]}" in text
    assert '/new"' in again
    assert f"{found[1]}/revoke" in again

    # When it is revoked
    answer = post(f"/{found[1]}/revoke", {}, admin)
    assert answer.status_code == 302
    assert answer["Location"] == PATH
    verifying.forget()
    assert ask("GET", "/timers", key=found[0]).status_code == 401
    assert rows(page(admin)) == {mine}
    assert f"revoke key {found[1]}" in words(page(admin))


@pytest.mark.usefixtures("required")
def test_a_reader_sees_all_and_changes_nothing() -> None:
    of = account("team")
    reader = key_of(of, ["read", "write"])
    other = key_of(of, ["admin"]).split("_")[1]
    text = page(reader)
    assert other in rows(text)
    assert "create account team" in words(text)
    assert "<form" not in text
    for path in ("/new", f"/{other}/revoke"):
        answer = post(path, {"scopes": "read"}, reader)
        assert answer.status_code == 403
        assert "`admin`" in answer.content.decode()
    assert len(services.list_keys(of)) == 2


@pytest.mark.usefixtures("required")
def test_another_accounts_keys_and_log_are_not_seen() -> None:
    theirs = key_of(account("other"), ["admin"]).split("_")[1]
    mine = key_of(account("mine"), ["admin", "read"])
    text = page(mine)
    assert theirs not in text
    assert "other" not in words(text).partition("Who did what")[2]
    answer = post(f"/{theirs}/revoke", {}, mine)
    assert answer.status_code == 404
    assert value_of("SELECT count(*) FROM api_key WHERE revoked_at IS NULL"
                    ) == 2


def test_where_no_key_is_needed_it_says_how_to_make_one() -> None:
    text = words(page())
    assert "No key is needed here" in text
    assert "manage.py api_keys create --account default" in text
    assert "No key yet" in text
    answer = post("/new", {"scopes": "read"})
    assert answer.status_code == 201
    assert rows(page()) == rows(answer.content.decode()) != set()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({}, "scopes: choose at least one"),
        ({"scopes": ["all"]}, "scopes: choose at least one"),
        ({"scopes": ["read"], "expires": "soon"}, "ends must be a moment"),
        ({"scopes": ["read"], "expires": "2020-01-31T12:00"},
         "ends must be in the future"),
        ({"scopes": ["read"], "expires": '"><script>'}, "ends must be a"),
    ],
    ids=str,
)
def test_a_wrong_form_says_why_and_keeps_what_was_filled_in(
    form: dict[str, Any], sentence: str
) -> None:
    answer = post("/new", form)
    text = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in words(text)
    if "expires" in form:
        assert f'value="{html.escape(form["expires"])}"' in text
        assert re.search(r'value="read" checked', text)
    assert not services.list_keys(OWNER)


def test_an_account_with_too_many_keys_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = storage.CREATE_KEY.replace(str(storage.MOST_KEYS), "1")
    monkeypatch.setattr(storage, "CREATE_KEY", query)
    key_of(OWNER)
    answer = post("/new", {"scopes": "read"})
    assert answer.status_code == 409
    assert "revoke some" in words(answer.content.decode())


def test_the_log_has_pages() -> None:
    with connect() as connection:
        for number in range(60):
            LoggedChange(AUTHOR, "test", f"<b>{number}</b>").log(connection)
    first = page()
    assert "test <b>59</b>" in words(first)
    assert "<b>" not in first
    older = re.search(r'href="(\?after=[0-9a-f-]+)[^"]*" rel="next"', first)
    assert older
    second = words(page(query=older[1]))
    assert "test <b>0</b>" in second
    assert "test <b>59</b>" not in second
    for wrong in ("1", "5a4f1c52-3a64-4f5e-9d0c-6b1f4b1c2d3e"):
        text = words(page(query=f"?after={wrong}", status=404))
        assert "no such entry" in text


def test_without_postgres_it_is_a_page_with_503(
    postgres: PostgresSwitch,
) -> None:
    postgres.goes_away()
    assert "Postgres is away" in page(status=503)

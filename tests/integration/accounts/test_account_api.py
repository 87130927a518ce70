"""Keys over the API: created, listed and revoked by those of `admin`."""

from typing import Any

import pytest
from pytest_django import Settings

from apps.accounts import storage, verifying
from apps.accounts.access import DEFAULT_ACCOUNT
from tests.support.accounts import account, ask, key_of
from tests.support.postgres_switch import PostgresSwitch

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")


@pytest.fixture(autouse=True)
def required(settings: Settings) -> None:
    settings.REQUIRE_API_KEY = True


def prefixes(key: str) -> set[str]:
    answer = ask("GET", "/account/keys", key=key)
    assert answer.status_code == 200, answer.content
    return {each["prefix"] for each in answer.json()["keys"]}


def test_a_key_is_created_used_and_revoked() -> None:
    admin = key_of(account("team"), ["admin"])
    own = admin.split("_")[1]

    # When a key is created
    answer = ask(
        "POST", "/account/keys",
        {"scopes": ["read", "read"], "expires_at": "2099-01-31T12:00:00Z"},
        key=admin,
    )

    # Then the answer has it, and nobody keeps that
    assert answer.status_code == 201, answer.content
    assert answer["Cache-Control"] == "no-store"
    key, prefix = answer.json()["key"], answer.json()["prefix"]
    assert ask("GET", "/timers", key=key).status_code == 200

    # And it is listed without its secret
    listed = ask("GET", "/account/keys", key=admin)
    assert key.split("_")[2] not in listed.content.decode()
    (shown,) = (
        each for each in listed.json()["keys"] if each["prefix"] == prefix
    )
    assert shown["scopes"] == ["read"]
    assert shown["expires_at"] == "2099-01-31T12:00:00Z"
    assert prefixes(admin) == {own, prefix}

    # When it is revoked, twice
    for _ in range(2):
        done = ask("DELETE", f"/account/keys/{prefix}", key=admin)
        assert done.status_code == 204

    # Then it is of no use, and is listed no more
    verifying.forget()
    assert ask("GET", "/timers", key=key).status_code == 401
    assert prefixes(admin) == {own}


def test_others_keys_are_as_if_they_never_were() -> None:
    mine = key_of(account("mine"), ["admin"])
    other = key_of(account("other"), ["admin"])
    prefix = other.split("_")[1]

    assert prefix not in prefixes(mine)
    answers = {
        ask("DELETE", f"/account/keys/{each}", key=mine)
        .content.decode().replace(each, "…")
        for each in (prefix, "00000000")
    }

    assert answers == {'{"detail": "The account has no key ….", "errors": []}'}
    verifying.forget()
    assert prefixes(other) == {prefix}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["all"]}, "scopes.0"),
        ({"scopes": "read"}, "scopes"),
        ({"scopes": ["read"], "expires_at": "2026-01-31"}, "expires_at"),
        ({"scopes": ["read"], "expires_at": 1}, "expires_at"),
        ({"scopes": ["read"], "expires_at": "2099-01-31T12:00:00"},
         "expires_at"),
        ({"scopes": ["read"], "expires_at": "2020-01-31T12:00:00Z"},
         "expires_at"),
        ({"scopes": ["read"], "account": 2}, "account"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(body: Any, field: str) -> None:
    admin = key_of(DEFAULT_ACCOUNT, ["admin"])
    answer = ask("POST", "/account/keys", body, key=admin)
    assert answer.status_code == 422, answer.content
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert prefixes(admin) == {admin.split("_")[1]}


@pytest.mark.parametrize("prefix", ["1", "tsk_0000", "0" * 9, "%00" * 8])
def test_a_prefix_has_eight_letters_and_digits(prefix: str) -> None:
    admin = key_of(DEFAULT_ACCOUNT, ["admin"])
    answer = ask("DELETE", f"/account/keys/{prefix}", key=admin)
    assert answer.status_code == 422


def test_an_account_has_not_any_number_of_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = key_of(DEFAULT_ACCOUNT, ["admin"])
    query = storage.CREATE_KEY.replace(str(storage.MOST_KEYS), "3")
    monkeypatch.setattr(storage, "CREATE_KEY", query)
    codes = [
        ask("POST", "/account/keys", {"scopes": ["read"]}, key=admin)
        .status_code for _ in range(3)
    ]
    assert codes == [201, 201, 409]


def test_without_postgres_it_is_503(postgres: PostgresSwitch) -> None:
    admin = key_of(DEFAULT_ACCOUNT, ["admin"])
    assert prefixes(admin)
    postgres.goes_away()
    answer = ask("GET", "/account/keys", key=admin)
    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"

"""`manage.py accounts` and `manage.py api_keys`."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from apps.accounts import limits, verifying
from apps.accounts.keys import PATTERN
from tests.support.accounts import ask
from tests.support.postgres_switch import PostgresSwitch

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")


def manage(*args: str) -> str:
    """Run a management command; return what it printed."""
    output = StringIO()
    call_command(*args, stdout=output)
    return output.getvalue()


def listed() -> dict[str, dict[str, Any]]:
    """Return all keys by their prefixes."""
    found = json.loads(manage("api_keys", "list", "--json"))
    return {each["prefix"]: each for each in found}


def test_an_account_and_its_key(settings: Settings) -> None:
    settings.REQUIRE_API_KEY = True
    assert "team-1" in manage("accounts", "create", "team-1")
    found = json.loads(manage("accounts", "list", "--json"))
    assert [each["name"] for each in found] == ["default", "team-1"]
    assert found[0]["id"] == 1
    assert "team-1" in manage("accounts", "list")

    # When a key is created, it is all that is printed
    line = manage(
        "api_keys", "create", "--account", "team-1",
        "--scopes", "read,write", "--expires", "2099-01-31T12:00:00+01:00",
    )
    key = line.removesuffix("\n")
    assert PATTERN.fullmatch(key)
    assert ask("GET", "/timers", key=key).status_code == 200

    # Then it is listed
    prefix = key.split("_")[1]
    shown = listed()[prefix]
    assert shown["account"] == "team-1"
    assert shown["scopes"] == ["read", "write"]
    assert shown["expires_at"] == "2099-01-31T11:00:00+00:00"
    assert shown["revoked_at"] is None
    assert f"{prefix}  team-1  read,write  " in manage("api_keys", "list")

    # When it is revoked, it is refused, and stays in the list
    manage("api_keys", "revoke", prefix)
    verifying.forget()
    assert ask("GET", "/timers", key=key).status_code == 401
    first = listed()[prefix]["revoked_at"]
    assert first
    assert "revoked" in manage("api_keys", "list")
    manage("api_keys", "revoke", prefix)
    assert listed()[prefix]["revoked_at"] == first


def test_limits_are_set_one_by_one_and_shown() -> None:
    manage("accounts", "create", "team-1")

    def shown() -> dict[str, Any]:
        _, team = json.loads(manage("accounts", "list", "--json"))
        found: dict[str, Any] = team["limits"]
        return found

    none = dict.fromkeys(
        ["outstanding", "creates_per_second", "burst", "body_bytes"]
    )
    assert shown() == none
    assert manage("accounts", "limits", "team-1") == "team-1: no limits.\n"

    # When some are set, Then the others stay as they are
    said = manage(
        "accounts", "limits", "team-1", "--outstanding", "1000",
        "--creates-per-second", "20",
    )
    assert said == (
        "team-1: outstanding 1000, creates-per-second 20, burst 20."
        " Held 2 s from now.\n"
    )
    manage("accounts", "limits", "team-1", "--burst=50", "--body-bytes=4096")
    assert shown() == {
        "outstanding": 1000, "creates_per_second": 20, "burst": 50,
        "body_bytes": 4096,
    }
    assert "burst 50" in manage("accounts", "list")

    # When they are taken away, Then nothing is left of them
    manage("accounts", "limits", "team-1", "--outstanding=none",
           "--creates-per-second=none", "--body-bytes=none")
    assert shown() == none
    assert limits.all_limits() == {}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["accounts", "create", "default"], "There is an account default"),
        (["accounts", "create", "A team"], "A name has 1 to 64"),
        (["accounts", "create", "x" * 65], "A name has 1 to 64"),
        (["accounts", "create", "-x"], "unrecognized|required|A name"),
        (["accounts", "limits", "none"], "There is no account none"),
        (["accounts", "limits", "default", "--outstanding", "0"],
         "must be a whole number from 1 to 2147483647, or none"),
        (["accounts", "limits", "default", "--outstanding", "many"],
         "must be a whole number"),
        (["accounts", "limits", "default", "--outstanding", "2000001"],
         "--outstanding is 2000000 at most, or none"),
        (["accounts", "limits", "default", "--burst", "5"],
         "--burst needs --creates-per-second"),
        (["api_keys", "create", "--account", "none", "--scopes", "read"],
         "There is no account none"),
        (["api_keys", "create", "--account", "default", "--scopes", "all"],
         "scopes are read, write, admin, metrics"),
        (["api_keys", "create", "--account", "default", "--scopes", ""],
         "scopes are read"),
        (["api_keys", "create", "--account", "default", "--scopes", "read",
          "--expires", "soon"], "must be a moment"),
        (["api_keys", "create", "--account", "default", "--scopes", "read",
          "--expires", "2099-01-31T12:00:00"], "must be a moment"),
        (["api_keys", "create", "--account", "default", "--scopes", "read",
          "--expires", "2020-01-31T12:00:00Z"], "must be in the future"),
        (["api_keys", "revoke", "00000000"], "There is no key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_named(args: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        manage(*args)
    assert listed() == {}


def test_without_postgres_it_says_so(postgres: PostgresSwitch) -> None:
    postgres.goes_away()
    for args in (["accounts", "list"], ["api_keys", "list"]):
        with pytest.raises(CommandError, match="Postgres can't be reached"):
            manage(*args)

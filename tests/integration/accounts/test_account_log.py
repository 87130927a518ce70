"""The log of who did what: written with each change, read by its account."""

import os
import pwd
from collections.abc import Callable
from io import StringIO
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from apps.accounts import log, services, signing
from apps.accounts.authors import Author
from apps.accounts.log import LoggedChange
from apps.core.database import connect
from apps.timers import bulk
from apps.timers import services as timers
from apps.timers.storage import aside
from tests.support.accounts import AUTHOR, OWNER, account, ask, key_of
from tests.support.api import GOOD
from tests.support.rows import change, new_timer
from tests.support.timers import execute, value_of

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")

ME = pwd.getpwuid(os.getuid()).pw_name
FAR = {**GOOD, "hours": 100, "url": "https://secret.example.com/path?q=word"}


def entries(key: str, query: str = "") -> Any:
    """Return a page of the log, as a key's account sees it."""
    answer = ask("GET", f"/account/log{query}", key=key)
    assert answer.status_code == 200, answer.content
    return answer.json()


def said(of: int) -> list[str]:
    """Return what an account's log says, the oldest entry first."""
    found, _ = log.entries(of, 1000)
    return [
        f"{each.key or each.operator} {each.action}"
        f"{'' if each.count is None else f' {each.count}'} {each.object}"
        for each in reversed(found)
    ]


def manage(*args: str) -> str:
    output = StringIO()
    call_command(*args, stdout=output, stderr=output)
    return output.getvalue()


def test_commands_that_change_something_are_logged() -> None:
    # When an operator makes an account with a key, and revokes it twice
    manage("accounts", "create", "team")
    of = value_of("SELECT id FROM account WHERE name = 'team'")
    arguments = ("--account", "team", "--scopes", "read")
    key = manage("api_keys", "create", *arguments).strip()
    prefix = key.split("_")[1]
    for _ in range(2):
        manage("api_keys", "revoke", prefix)

    # And limits it, and looks at its limits
    manage("accounts", "limits", "team", "--outstanding", "5")
    manage("accounts", "limits", "team")

    # And makes and revokes a signing secret
    manage("signing_secrets", "create", "--account", "team")
    secret = value_of("SELECT id FROM signing_secret")
    manage("signing_secrets", "revoke", secret)

    # Then its log says so, each change once, and no other one does
    assert said(of) == [
        f"{ME}: manage.py accounts create create account team",
        f"{ME}: manage.py api_keys create create key {prefix}",
        f"{ME}: manage.py api_keys revoke revoke key {prefix}",
        f"{ME}: manage.py accounts limits limit account team",
        f"{ME}: manage.py signing_secrets create create signing secret"
        f" {secret}",
        f"{ME}: manage.py signing_secrets revoke revoke signing secret"
        f" {secret}",
    ]
    assert said(OWNER) == []


def test_a_hold_and_what_follows_are_of_the_account_default() -> None:
    timer = new_timer(-5)
    change(timer, "created_at = created_at - interval '1 min'")
    manage("hold", "--reason", "restored")
    manage("reconcile", "--fired-before", value_of(
        "SELECT to_char(now() at time zone 'UTC',"
        " 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    ), "--yes")
    manage("release")
    manage("release")
    assert value_of(f"SELECT outcome FROM timer WHERE id = '{timer}'")
    held, reconciled, released = said(OWNER)
    assert held == f"{ME}: manage.py hold hold calls: restored"
    assert reconciled.startswith(
        f"{ME}: manage.py reconcile reconcile 1 timers due before 2"
    )
    assert released == f"{ME}: manage.py release release calls"


def test_keys_of_the_account_are_logged_with_the_key_that_did_it() -> None:
    of = account("team")
    admin = key_of(of, ["admin"])
    prefix = admin.split("_")[1]
    made = ask("POST", "/account/keys", {"scopes": ["read"]}, key=admin)
    new = made.json()["prefix"]
    ask("DELETE", f"/account/keys/{new}", key=admin)
    ask("DELETE", "/account/keys/00000000", key=admin)
    assert said(of)[2:] == [
        f"{prefix} create key {new}", f"{prefix} revoke key {new}",
    ]

    # And the endpoint shows the same, the latest first
    found = entries(admin)
    latest = found["entries"][0]
    assert found["next"] is None
    assert latest.pop("id")
    assert latest.pop("at")
    assert latest == {
        "key": prefix, "operator": None, "address": "127.0.0.1",
        "action": "revoke", "object": f"key {new}", "count": None,
    }


def cancel_by(key: str, body: object) -> Any:
    return ask("POST", "/timers/cancel", body, key=key)


def test_what_is_done_in_bulk_is_logged_without_its_contents() -> None:
    of = account("team")
    key = key_of(of)
    prefix = key.split("_")[1]
    ids = [
        ask("POST", "/timer", FAR | {"labels": {"user": "17"}}, key=key)
        .json()["id"] for _ in range(4)
    ]
    before = len(said(of))

    # When timers are cancelled by id, by filter, and not at all
    assert cancel_by(key, {"ids": ids[:1]}).json()["cancelled"] == 1
    assert cancel_by(key, {
        "label": ["user:17"], "to": "2099-01-01T00:00:00Z", "limit": 2,
    }).json()["cancelled"] == 2
    cancel_by(key, {"host": "secret.example.com", "dry_run": True})
    cancel_by(key, {"ids": ids[:3]})
    # And one of them alone
    assert ask("DELETE", f"/timer/{ids[3]}", key=key).status_code == 204

    # Then there is an entry for each change in bulk
    assert said(of)[before:] == [
        f"{prefix} cancel 1 timers by id",
        f"{prefix} cancel 2 timers by to, label",
    ]

    # When they are replayed
    for each in ids:
        change(each, "outcome = 'failed', attempts = 1")
    answer = ask("POST", "/timers/replay", {"ids": ids[:1]}, key=key)
    assert answer.json()["replayed"] == 1
    host = {"host": "secret.example.com"}
    answer = ask("POST", "/timers/replay", host, key=key)
    assert answer.json()["replayed"] == 3
    assert said(of)[before + 2:] == [
        f"{prefix} replay 1 timers by id",
        f"{prefix} replay 3 timers by host",
    ]

    # When they are erased, and cancelled before
    body = {"label": "user:17", "cancel": True}
    answer = ask("POST", "/timers/erase", body, key=key)
    assert answer.json()["erased"] == 4
    manage("erase", "--account", "team", "--id", ids[0])
    assert said(of)[before + 4:] == [
        f"{prefix} cancel 4 timers by label",
        f"{prefix} erase 4 timers by label",
    ]


def test_a_page_that_replays_a_group_is_logged() -> None:
    timer = new_timer(-1)
    change(timer, "outcome = 'missed'")
    form = {"kind": "missed", "host": value_of("SELECT host FROM timer")}
    answer = Client().post("/dashboard/gave-up/replay", form)
    assert answer["Location"].endswith("replayed=1&of=1")
    assert said(OWNER) == ["None replay 1 timers by host, kind of error"]


@pytest.fixture
def broken_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the log refuse each entry."""
    query = log.WRITE.replace("%(action)s", "NULL")
    monkeypatch.setattr(log, "WRITE", query)


CHANGES: dict[str, Callable[[], object]] = {
    "account": lambda: services.create_account("team", AUTHOR),
    "key": lambda: services.create_key(OWNER, ["read"], None, AUTHOR),
    "limits": lambda: services.change_limits(
        "default", {"outstanding": 5}, AUTHOR
    ),
    "signing secret": lambda: signing.create(OWNER, "v1", AUTHOR),
    "hold": lambda: manage("hold"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_is_made_without_its_entry(
    name: str, broken_log: None
) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation):
        CHANGES[name]()
    tables = (
        "account WHERE id > 1", "api_key", "account_limit", "hold", "log",
        "signing_secret",
    )
    for table in tables:
        assert value_of(f"SELECT count(*) FROM {table}") == 0


def test_none_of_a_group_changes_without_its_entry(
    broken_log: None, clean_rows: None
) -> None:
    waits, missed = new_timer(60), new_timer(-1)
    change(missed, "outcome = 'missed'")
    assert bulk.cancel(AUTHOR, [waits], "id") == set()
    assert timers.replay_timers(AUTHOR, [missed], "id") == [missed]
    assert value_of("SELECT count(*) FROM timer WHERE version > 1") == 0


def test_each_commit_of_a_long_change_has_its_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aside, "GROUP", 2)
    ids = [new_timer(60) for _ in range(5)]
    assert bulk.cancel(AUTHOR, ids, "key") == set(ids)
    assert [each.rsplit(" cancel ")[1] for each in said(OWNER)] == [
        "2 timers by key", "2 timers by key", "1 timers by key",
    ]


def write(count: int, of: int = OWNER) -> None:
    with connect() as connection:
        for number in range(count):
            LoggedChange(
                Author(of), "test", f"number {number}"
            ).log(connection)


def test_pages_go_on_where_one_ended() -> None:
    key = key_of(OWNER, ["admin"])
    other = account("other")
    write(5)
    write(2, other)
    found, after = [], ""
    while True:
        page = entries(key, f"?limit=2{after}")
        assert len(page["entries"]) <= 2
        found += [each["object"] for each in page["entries"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    numbers = [f"number {number}" for number in (4, 3, 2, 1, 0)]
    assert found == [*numbers, f"key {key.split('_')[1]}"]

    # And what is no entry of the account is refused, whether it is another's
    theirs = log.entries(other, 1)[0][0].id
    for unknown in (theirs, uuid4(), "1"):
        answer = ask("GET", f"/account/log?after={unknown}", key=key)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{
            "field": "after",
            "message": "is no entry; it must be an answer's `next`",
        }]


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=1001", "?after=1", "?account=2"]
)
def test_a_wrong_query_is_refused(query: str) -> None:
    answer = ask("GET", f"/account/log{query}", key=key_of(OWNER, ["admin"]))
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("proxies", "given", "address"),
    [
        (0, "192.0.2.7", "127.0.0.1"),
        (1, "192.0.2.7", "192.0.2.7"),
        (1, "198.51.100.1, 192.0.2.7", "192.0.2.7"),
        (2, "spoofed, 198.51.100.1, 192.0.2.7", "198.51.100.1"),
        (2, "192.0.2.7", "127.0.0.1"),
        (1, "::ffff:192.0.2.7", "192.0.2.7"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "<script>", None),
    ],
)
def test_only_own_proxies_say_where_a_request_comes_from(
    proxies: int, given: str, address: str | None, settings: Settings
) -> None:
    settings.PROXIES = proxies
    key = key_of(OWNER, ["admin"])
    headers = {"x-forwarded-for": given}
    ask("POST", "/account/keys", {"scopes": ["read"]}, key=key, **headers)
    assert entries(key)["entries"][0]["address"] == address


def test_entries_are_kept_for_400_days() -> None:
    write(3)
    execute("UPDATE log SET at = at - interval '399 days'"
            " WHERE object = 'number 0'")
    execute("UPDATE log SET at = at - interval '401 days'"
            " WHERE object = 'number 1'")
    assert list(log.forget()) == [0]
    assert {each.rsplit(" ")[-1] for each in said(OWNER)} == {"0", "2"}


def test_old_entries_are_removed_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "_BATCH", 2)
    query = log.FORGET.replace("LIMIT 500", "LIMIT 2")
    monkeypatch.setattr(log, "FORGET", query)
    write(5)
    execute("UPDATE log SET at = at - interval '401 days'")
    assert list(log.forget()) == [0, 0, 0]
    assert said(OWNER) == []

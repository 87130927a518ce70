"""What an account owns is to all others as if it never was.

For each operation of the API's document there is a row: what one account asks
for, with the names of another one's things, or with names that nobody has.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID, uuid4

import pytest
from pytest_django import Settings

from apps.accounts import services, signing
from apps.accounts.access import needed_scope
from apps.timers.models import Outcome
from apps.timers.storage import recording
from config.api import api
from tests.support.accounts import AUTHOR, account, ask, key_of
from tests.support.api import GOOD
from tests.support.rows import claimed, report
from tests.support.timers import value_of

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")

FAR = {**GOOD, "hours": 100}


@dataclass(frozen=True)
class Names:
    """What the things of an account are called, or what nothing is."""

    waits: str = str(uuid4())
    failed: str = str(uuid4())
    key: str = "nothing 17"
    label: str = "nobody:none"
    host: str = "nobody.example.com"
    request: str = "no request"
    prefix: str = "00000000"
    secret: str = "f" * 12
    entry: str = str(uuid4())


@dataclass(frozen=True)
class Ask:
    """A request."""

    path: str
    body: object = None
    request_key: str | None = None


Row = Callable[[Names], list[Ask]]


def by_id(end: str = "", body: object = None) -> Row:
    """Ask about the timers by their ids."""
    return lambda names: [
        Ask(f"/timer/{each}{end}", body)
        for each in (names.waits, names.failed)
    ]


def by_key(body: object = None) -> Row:
    """Ask about the timer by its key."""
    return lambda names: [Ask(f"/timer/by-key/{names.key}", body)]


#: Of each operation, what one account asks for.
ROWS: dict[str, Row] = {
    "POST /timer": lambda names: [
        Ask("/timer", FAR | {"key": names.key}, names.request),
    ],
    "GET /timer/{timer_uuid}": by_id(),
    "PATCH /timer/{timer_uuid}": lambda names: [
        *by_id(body={"hours": 1, "minutes": 0, "seconds": 0})(names),
        *by_id(body={"labels": {"a": "b"}})(names),
    ],
    "DELETE /timer/{timer_uuid}": by_id(),
    "POST /timer/{timer_uuid}/fire": by_id("/fire"),
    "POST /timer/{timer_uuid}/replay": by_id("/replay"),
    "GET /timer/{timer_uuid}/attempts": by_id("/attempts"),
    "GET /timer/{timer_uuid}/explain": by_id("/explain"),
    "PUT /timer/by-key/{key}": lambda names: [
        *by_key(FAR | {"if_exists": "keep"})(names),
        *by_key(FAR | {"if_exists": "extend"})(names),
        *by_key(FAR)(names),
    ],
    "GET /timer/by-key/{key}": by_key(),
    "PATCH /timer/by-key/{key}": by_key({"labels": {"a": "b"}}),
    "DELETE /timer/by-key/{key}": by_key(),
    "GET /timers": lambda names: [
        Ask("/timers"),
        Ask("/timers?order=desc&status=scheduled&status=failed"),
        Ask(f"/timers?key={names.key}"),
        Ask(f"/timers?key={names.key[:3]}*"),
        Ask(f"/timers?host={names.host}"),
        Ask(f"/timers?label={names.label}"),
        Ask(f"/timers?label={names.label}&status=scheduled"),
        Ask(f"/timers?after={names.waits}"),
    ],
    "POST /timers": lambda names: [
        Ask("/timers", [FAR | {"key": names.key}, FAR], names.request),
    ],
    "POST /timers/cancel": lambda names: [
        Ask("/timers/cancel", {"ids": [names.waits, names.failed]}),
        Ask("/timers/cancel", {"label": [names.label]}),
        Ask("/timers/cancel", {"host": names.host, "dry_run": True}),
    ],
    "POST /timers/replay": lambda names: [
        Ask("/timers/replay", {"ids": [names.waits, names.failed]}),
        Ask("/timers/replay", {"host": names.host}),
        Ask("/timers/replay", {"host": names.host, "after": names.failed}),
    ],
    "POST /timers/erase": lambda names: [
        Ask("/timers/erase", {"ids": [names.waits, names.failed]}),
        Ask("/timers/erase", {"label": names.label, "cancel": True}),
    ],
    "GET /account/limits": lambda names: [Ask("/account/limits")],
    "GET /account/keys": lambda names: [Ask("/account/keys")],
    "GET /account/log": lambda names: [
        Ask("/account/log"), Ask(f"/account/log?after={names.entry}"),
    ],
    "POST /account/keys": lambda names: [
        Ask("/account/keys", {"scopes": ["read"]})
    ],
    "DELETE /account/keys/{prefix}": lambda names: [
        Ask(f"/account/keys/{names.prefix}")
    ],
    "GET /account/signing-secrets": lambda names: [
        Ask("/account/signing-secrets")
    ],
    "POST /account/signing-secrets": lambda names: [
        Ask("/account/signing-secrets", {}),
        Ask("/account/signing-secrets",
            {"others_end_at": "2099-01-31T12:00:00Z"}),
    ],
    "DELETE /account/signing-secrets/{secret_id}": lambda names: [
        Ask(f"/account/signing-secrets/{names.secret}")
    ],
}
#: They say the same to everybody.
FOR_ALL = {"GET /metrics"}
#: They show what belongs to whoever asks: see test_limits.py.
WITHOUT_NAMES = {"GET /account/limits"}


def test_no_operation_is_left_out() -> None:
    operations = {
        f"{method.upper()} {path}"
        for path, methods in api.document["paths"].items()
        for method in methods
        if needed_scope(method.upper(), path)
    }
    assert operations == ROWS.keys() | FOR_ALL


@dataclass(frozen=True)
class Others:
    """Another account, with a key and the names of its things."""

    id: int
    key: str
    names: Names


@pytest.fixture
def others(settings: Settings) -> Others:
    """Make an account, with a timer that waits and one that failed."""
    settings.REQUIRE_API_KEY = True
    other = account("other")
    key = key_of(other)

    def made(path: str, body: object, method: str = "POST") -> Any:
        headers = {"idempotency-key": "their request"}
        answer = ask(method, path, body, key=key, **headers)
        assert answer.status_code in (200, 201)
        return json.loads(b"".join(answer))

    url = {"url": "https://theirs.example.com/hook"}
    more = {"key": "order 17", "labels": {"user": "17"}}
    waits = made("/timer", FAR | url | more)["id"]
    made(f"/timer/{waits}", {"max_lateness": 60}, "PATCH")
    (failed,) = made("/timers", [GOOD | url | {"seconds": 0}])
    claim = claimed(UUID(failed["id"]))
    assert recording.record([report(claim, Outcome.FAILED)]) == [True]
    names = Names(
        waits, failed["id"], "order 17", "user:17", "theirs.example.com",
        "their request", key.split("_")[1],
        signing.create(other, "v1", AUTHOR).id,
        str(value_of(f"SELECT id FROM log WHERE account_id = {other}"
                     " ORDER BY at LIMIT 1")),
    )
    return Others(other, key, names)


def kept(of: int) -> dict[str, Any]:
    """Return all rows of an account, or of its timers."""
    mine = f"account_id = {of}"
    timers = f"timer_id IN (SELECT id FROM timer WHERE {mine})"
    tables = {
        "timer": mine, "timer_key": mine, "timer_label": mine,
        "request_key": mine, "request_chunk": mine, "event": timers,
        "attempt": timers, "api_key": mine, "signing_secret": mine,
        "log": mine,
    }
    return {
        table: value_of(
            f"SELECT json_agg(row_to_json(kept)::jsonb - 'last_used_at'"
            f" ORDER BY kept::text) FROM {table} AS kept WHERE {where}"
        )
        for table, where in tables.items()
    }


def answered(row: str, names: Names, key: str) -> Iterator[tuple[int, str]]:
    """Ask for all of a row; yield the answers, without names and moments."""
    for each in ROWS[row](names):
        headers = {}
        if each.request_key is not None:
            headers["idempotency-key"] = each.request_key
        answer = ask(
            row.split()[0], each.path, each.body, key=key, **headers
        )
        text = b"".join(answer).decode()
        for field in fields(names):
            text = text.replace(getattr(names, field.name), field.name)
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "an id", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "a moment", text)
        text = re.sub(r"(?<=time_left\": )\d+", "some seconds", text)
        # A use is noted a little later.
        text = re.sub(r"(?<=last_used_at\": )[^},]+", "sometime", text)
        text = re.sub(r"(?<=object\": \")[^\"]+", "something", text)
        text = re.sub(r"(?<=\"id\": \")[0-9a-f]{12}|whsec_[^\"]+", "one", text)
        text = re.sub(r"tsk_\w+|(?<=\"prefix\": \")\w{8}", "a key", text)
        yield answer.status_code, text


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: row.replace("/", "|")
)
def test_what_another_account_has_is_as_if_it_never_was(
    row: str, others: Others
) -> None:
    before = kept(others.id)
    assert all(before.values()), before

    # When one account asks for another one's things, and for what never was
    theirs = list(answered(row, others.names, key_of(account("mine"))))
    nobodys = list(answered(row, Names(), key_of(account("third"))))

    # Then it is answered alike, and nothing of the other one's has changed
    assert theirs == nobodys
    assert not any("error of the server" in text for _, text in theirs)
    assert kept(others.id) == before


def test_a_row_finds_what_is_there(others: Others) -> None:
    # When the owner asks, Then each row is answered otherwise
    alike = [
        row for row in ROWS
        if row.startswith("GET") and row not in WITHOUT_NAMES
        and list(answered(row, others.names, others.key))
        == list(answered(row, Names(), others.key))
    ]
    assert not alike


def test_two_accounts_may_use_the_same_names(others: Others) -> None:
    mine = key_of(account("mine"))

    # When an account uses another one's key, and its request's key
    made = ask(
        "POST", "/timer", FAR | {"key": others.names.key}, key=mine,
        **{"idempotency-key": others.names.request},
    )

    # Then each of the two finds its own timer by it
    assert made.status_code == 201
    found = {
        ask("GET", f"/timer/by-key/{others.names.key}", key=key).json()["id"]
        for key in (mine, others.key)
    }
    assert found == {made.json()["id"], others.names.waits}
    assert [
        len(ask("GET", "/timers?key=order*", key=key).json()["timers"])
        for key in (mine, others.key)
    ] == [1, 1]


def test_a_revoked_key_takes_no_timer_away(others: Others) -> None:
    services.revoke_key(others.names.prefix, None, AUTHOR)
    again = key_of(others.id)
    timer = ask("GET", f"/timer/{others.names.waits}", key=again)
    assert timer.status_code == 200

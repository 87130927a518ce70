"""Signing secrets of accounts: made, listed, rotated, revoked, unreadable."""

import json
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PublicKey,
)
from django.core.management import CommandError, call_command
from pytest_django import Settings
from standardwebhooks import Webhook

from apps.accounts import signing
from apps.core.sealing import KeyRing
from apps.timers.firing import fire
from apps.timers.storage import creating
from apps.timers.storage.records import Definition, NewTimer
from tests.support.accounts import AUTHOR, OWNER, account, ask, key_of
from tests.support.postgres_switch import PostgresSwitch
from tests.support.receiver import Call, Receiver
from tests.support.rows import attempts, row
from tests.support.service import SECRET
from tests.support.timers import execute, value_of

pytestmark = pytest.mark.usefixtures("local_calls")


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    signing.forget()
    yield
    signing.forget()


def manage(*args: str) -> str:
    output = StringIO()
    call_command("signing_secrets", *args, stdout=output)
    return output.getvalue()


def set_for(owner: int, receiver: Receiver) -> UUID:
    """Store a timer of an account that is due."""
    timer = NewTimer(
        uuid4(), owner, Definition(receiver.url()), timedelta(seconds=-1),
        queued=False,
    )
    creating.create([timer])
    return timer.id


def called(owner: int, receiver: Receiver) -> Call:
    """Fire a timer of an account; return the call."""
    signing.forget()
    before = len(receiver.calls)
    timer_id = set_for(owner, receiver)
    fire.fire(timer_id)
    assert row(timer_id)["outcome"] == "delivered"
    (call,) = receiver.calls[before:]
    return call


def versions(call: Call) -> list[str]:
    """Return the kinds of a call's signatures, in their order."""
    signatures = call.headers.get("webhook-signature", "").split()
    return [each.partition(",")[0] for each in signatures]


def verifies(text: str, call: Call) -> bool:
    """Tell whether what a receiver was given verifies a call."""
    try:
        if text.startswith("whsec_"):
            Webhook(text).verify(call.body, call.headers)
            return True
        public = Ed25519PublicKey.from_public_bytes(b64decode(text[5:]))
        headers = call.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}."
        (mine,) = (
            each[4:] for each in headers["webhook-signature"].split()
            if each.startswith("v1a,")
        )
        public.verify(b64decode(mine), signed.encode() + call.body)
    except Exception:
        return False
    return True


def test_the_calls_of_an_account_are_signed_by_its_own_secrets(
    receiver: Receiver
) -> None:
    # Given two accounts with secrets, and the server's own
    team, other = account("team"), account("other")
    mine = signing.create(team, "v1", AUTHOR).text
    public = signing.create(team, "v1a", AUTHOR).text
    theirs = signing.create(other, "v1", AUTHOR).text
    texts = [mine, public, theirs, SECRET]

    # Then each call is signed by all of its account's, and by no others
    call = called(team, receiver)
    assert [verifies(each, call) for each in texts] == [1, 1, 0, 0]
    assert versions(call) == ["v1", "v1a"]
    call = called(other, receiver)
    assert [verifies(each, call) for each in texts] == [0, 0, 1, 0]
    call = called(OWNER, receiver)
    assert [verifies(each, call) for each in texts] == [0, 0, 0, 1]


def test_the_default_account_may_have_more_than_the_server_s(
    receiver: Receiver
) -> None:
    more = signing.create(OWNER, "v1", AUTHOR).text
    call = called(OWNER, receiver)
    assert verifies(more, call)
    assert verifies(SECRET, call)
    assert versions(call) == ["v1", "v1"]


def test_the_calls_of_an_account_without_a_secret_are_not_signed(
    receiver: Receiver
) -> None:
    call = called(account("team"), receiver)
    assert "webhook-signature" not in call.headers
    assert {"webhook-id", "webhook-timestamp"} <= call.headers.keys()


def test_a_rotation_overlaps(receiver: Receiver) -> None:
    # Given an account with a secret of each kind
    team = account("team")
    old = signing.create(team, "v1", AUTHOR)
    public = signing.create(team, "v1a", AUTHOR)

    # When another one takes over tomorrow
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    new = signing.create(team, "v1", AUTHOR, tomorrow)

    # Then both sign until then, and the other kind signs for ever
    call = called(team, receiver)
    assert all(verifies(each.text, call) for each in (old, new, public))
    ends = {each.id: each.ends_at for each in signing.list_secrets(team)}
    assert ends == {old.id: tomorrow, new.id: None, public.id: None}

    # When that moment has passed, the old one signs no more
    execute("UPDATE signing_secret SET ends_at = now() WHERE id = %s", old.id)
    call = called(team, receiver)
    assert not verifies(old.text, call)
    assert verifies(new.text, call)
    listed = {each.id for each in signing.list_secrets(team)}
    assert listed == {new.id, public.id}

    # And it goes with the next change
    signing.create(team, "v1a", AUTHOR)
    assert value_of(
        "SELECT count(*) FROM signing_secret WHERE id = %s", old.id
    ) == 0


def test_a_moment_does_not_let_a_secret_sign_for_longer() -> None:
    team = account("team")
    old = signing.create(team, "v1", AUTHOR)
    soon, later = (
        datetime.now(UTC) + timedelta(days=days) for days in (1, 9)
    )
    signing.create(team, "v1", AUTHOR, soon)
    signing.create(team, "v1", AUTHOR, later)
    ends = {each.id: each.ends_at for each in signing.list_secrets(team)}
    assert ends[old.id] == soon


def test_what_was_found_counts_for_two_seconds(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = account("team")
    old = signing.create(team, "v1", AUTHOR)
    called(team, receiver)

    # When it is revoked, Then it counts until what is known is old
    assert signing.revoke(old.id, AUTHOR)
    assert len(signing.keys_of(team).secrets) == 1
    monkeypatch.setattr(signing, "LIFETIME", 0.0)
    signing.forget()
    signing.keys_of(team)
    assert signing.keys_of(team).secrets == ()
    assert not signing.revoke(old.id, AUTHOR)


def test_while_postgres_is_away_what_was_known_signs(
    postgres: PostgresSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given what was read of an account, and is old by now
    monkeypatch.setattr(signing, "LIFETIME", 0.0)
    team, other = account("team"), account("other")
    signing.create(team, "v1", AUTHOR)
    known = signing.keys_of(team)

    # When Postgres is away, Then it counts; of others nothing is known
    postgres.goes_away()
    monkeypatch.setattr(signing, "LIFETIME", 2.0)
    assert signing.keys_of(team) == known
    with pytest.raises(Exception) as raised:  # noqa: PT011
        signing.keys_of(other)
    assert not isinstance(raised.value, signing.UnreadableSecret)


# --- encryption --------------------------------------------------------------


def test_a_secret_is_sealed(receiver: Receiver, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = KeyRing("a", {"a": bytes(32)})
    team = account("team")
    made = [signing.create(team, kind, AUTHOR) for kind in ("v1", "v1a")]
    raw = b64decode(made[0].text[6:])
    stored = value_of(
        "SELECT string_agg(encrypted_with || encode(secret, 'hex'), ' ')"
        " FROM signing_secret"
    )
    assert stored.count("a") >= 2
    assert raw.hex() not in stored
    call = called(team, receiver)
    assert all(verifies(each.text, call) for each in made)


def test_a_secret_that_can_t_be_read_ends_its_account_s_timers_alone(
    receiver: Receiver, settings: Settings
) -> None:
    # Given two accounts' secrets, one sealed with a key that is lost
    team, other = account("team"), account("other")
    settings.ENCRYPTION_KEYS = KeyRing("lost", {"lost": bytes(32)})
    secret = signing.create(team, "v1", AUTHOR)
    settings.ENCRYPTION_KEYS = KeyRing()
    theirs = signing.create(other, "v1", AUTHOR)
    signing.forget()

    # When timers of both are called
    timer_id = set_for(team, receiver)
    fire.fire(timer_id)

    # Then the one is not sent unsigned, and says why; the other goes on
    assert receiver.calls == []
    found = row(timer_id)
    assert (found["outcome"], found["error"]) == (
        "failed",
        f"invalid: signing secret {secret.id}: it is encrypted with the key"
        " 'lost', which is not among ENCRYPTION_KEYS",
    )
    assert attempts(timer_id) == []
    assert verifies(theirs.text, called(other, receiver))


# --- the command -------------------------------------------------------------


def test_the_command_creates_lists_and_revokes(receiver: Receiver) -> None:
    team = account("team")
    secret = manage("create", "--account", "team").removesuffix("\n")
    public = manage(
        "create", "--account", "team", "--kind", "v1a"
    ).removesuffix("\n")
    call = called(team, receiver)
    assert verifies(secret, call)
    assert verifies(public, call)

    shown = json.loads(manage("list", "--json"))
    assert [each["kind"] for each in shown] == ["v1", "v1a"]
    assert [each["public_key"] for each in shown] == [None, public]
    assert secret not in manage("list") + manage("list", "--json")
    assert f"{shown[1]['id']}  team  v1a" in manage("list")
    assert public in manage("list")

    manage("revoke", shown[0]["id"], "--at", "2099-01-31T12:00:00Z")
    assert "until 2099-01-31" in manage("list")
    manage("revoke", shown[0]["id"])
    assert shown[0]["id"] not in manage("list")
    manage(
        "create", "--account", "team", "--kind", "v1a", "--others-end",
        "2099-01-31T12:00:00Z",
    )
    assert manage("list").count("until 2099") == 1


@pytest.mark.parametrize(("args", "sentence"), [
    (["create", "--account", "none"], "There is no account none"),
    (["create", "--account", "default", "--kind", "v2"], "invalid choice"),
    (["create", "--account", "default", "--others-end", "2000-01-01T00:00Z"],
     "must be in the future"),
    (["revoke", "4f1c2a9b7d3e"], "There is no signing secret"),
])
def test_the_command_names_a_mistake(args: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        manage(*args)


# --- the API -----------------------------------------------------------------


@pytest.fixture
def admin(settings: Settings) -> str:
    settings.REQUIRE_API_KEY = True
    return key_of(account("team"), ["admin"])


def post(key: str, **body: Any) -> Any:
    return ask("POST", "/account/signing-secrets", body, key=key)


def test_the_api_creates_lists_and_revokes(admin: str) -> None:
    made = post(admin)
    assert made.status_code == 201, made.content
    assert made["Cache-Control"] == "no-store"
    first = made.json()
    assert first["secret"].startswith("whsec_")
    assert first["public_key"] is None
    second = post(
        admin, kind="v1a", others_end_at="2099-01-31T12:00:00Z"
    ).json()
    assert second["secret"] is None
    third = post(admin, others_end_at="2099-01-31T12:00:00Z").json()

    listed = ask("GET", "/account/signing-secrets", key=admin)
    assert first["secret"] not in listed.text
    assert [
        (each["id"], each["kind"], each["public_key"], each["ends_at"])
        for each in listed.json()["signing_secrets"]
    ] == [
        (first["id"], "v1", None, "2099-01-31T12:00:00Z"),
        (second["id"], "v1a", second["public_key"], None),
        (third["id"], "v1", None, None),
    ]
    path = f"/account/signing-secrets/{first['id']}"
    assert ask("DELETE", path, key=admin).status_code == 204
    assert ask("DELETE", path, key=admin).status_code == 404
    left = ask("GET", "/account/signing-secrets", key=admin).json()
    assert len(left["signing_secrets"]) == 2


@pytest.mark.parametrize("body", [
    {"kind": "v2"}, {"others_end_at": "2000-01-01T00:00:00Z"},
    {"others_end_at": "2099-01-31T12:00:00"}, {"secret": "whsec_"},
])
def test_the_api_names_a_mistake(body: dict[str, str], admin: str) -> None:
    answer = post(admin, **body)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == list(body)


def test_an_account_has_ten_secrets_at_most(admin: str) -> None:
    ids = [post(admin).json()["id"] for _ in range(10)]
    answer = post(admin)
    assert answer.status_code == 409
    assert "10 secrets that sign; revoke some" in answer.json()["detail"]
    signing.revoke(ids[0], AUTHOR)
    assert post(admin).status_code == 201

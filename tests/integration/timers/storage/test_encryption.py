"""Encryption at rest: what rows have, who can read it, and how it rotates."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from apps.accounts import signing
from apps.core.sealing import KeyRing
from apps.timers.firing import fire
from apps.timers.models import Outcome
from apps.timers.storage import (
    changing,
    claiming,
    looking,
    recording,
    replaying,
    rotating,
    taking_over,
)
from apps.timers.storage.claim_records import ClaimRequest, Mark
from apps.webhooks.request import WebhookRequest
from tests.support.accounts import AUTHOR, OWNER, ask
from tests.support.api import GOOD
from tests.support.receiver import Receiver
from tests.support.rows import (
    attempts,
    change,
    claimed,
    database_clock,
    new_timer,
    new_timers,
    report,
    row,
)
from tests.support.timers import value_of

pytestmark = pytest.mark.usefixtures("clean_rows", "local_calls")

A, B = bytes(32), bytes(range(32))
ONLY_A, A_THEN_B = KeyRing("a", {"a": A}), KeyRing("a", {"a": A, "b": B})
B_THEN_A = KeyRing("b", {"b": B, "a": A})
ONLY_B, PLAIN = KeyRing("b", {"b": B}), KeyRing(None, {"a": A, "b": B})
REQUEST = WebhookRequest(
    "POST", {"X-Secret": "topsecret", "content-type": "text/plain"},
    b"topsecret",
)


@pytest.fixture(autouse=True)
def encrypts(settings: Settings) -> Iterator[None]:
    settings.ENCRYPTION_KEYS = ONLY_A
    signing.forget()
    yield
    signing.forget()


def contents() -> str:
    """Return all that Postgres has of timers and attempts."""
    return str(value_of(
        "SELECT coalesce((SELECT string_agg(timer::text, ' ') FROM timer), '')"
        " || coalesce((SELECT string_agg(a::text, ' ') FROM attempt AS a), '')"
    ))


def is_told(text: str = "topsecret") -> bool:
    found = contents()
    return text in found or text.encode().hex() in found


def secret_timer(seconds: float = -1, **options: Any) -> UUID:
    return new_timer(seconds, request=REQUEST, **options)


def called(timer_id: UUID, receiver: Receiver) -> None:
    """Fire a timer; its receiver gets what was asked for."""
    before = len(receiver.calls)
    fire.fire(timer_id)
    (call,) = receiver.calls[before:]
    assert (call.headers["x-secret"], call.body) == ("topsecret", b"topsecret")


def test_what_is_sent_and_answered_is_not_told(receiver: Receiver) -> None:
    # Given a receiver whose answer is as secret as the call
    receiver.status, receiver.answer = 500, b"topsecret answer"
    timer_id = secret_timer(url=receiver.url())
    assert row(timer_id)["encrypted_with"] == "a"
    assert not is_told()

    # When it is called, Then the answer is sealed, too
    called(timer_id, receiver)
    (attempt,) = attempts(timer_id)
    assert attempt["encrypted_with"] == "a"
    assert not is_told()

    # And the API shows it
    shown = ask("GET", f"/timer/{timer_id}/attempts").json()["attempts"]
    assert shown[0]["answer"] == "topsecret answer"
    assert looking.attempts(OWNER, timer_id)[0].answer == b"topsecret answer"


def put(body: dict[str, Any]) -> str:
    return str(ask("PUT", "/timer/by-key/k", body).json()["id"])


def patched() -> str:
    timer_id = ask("POST", "/timer", GOOD | {"hours": 1}).json()["id"]
    ask("PATCH", f"/timer/{timer_id}", SECRETS)
    return str(timer_id)


def put_twice() -> str:
    put(GOOD | {"hours": 1})
    return put(GOOD | {"hours": 1} | SECRETS)


def in_bulk() -> str:
    answer = ask("POST", "/timers", [GOOD | {"hours": 1} | SECRETS])
    assert b"id" in b"".join(answer)
    return str(value_of("SELECT id FROM timer"))


LATER = {"hours": 2, "minutes": 0, "seconds": 0}
SECRETS = {"headers": {"X-Secret": "topsecret"}, "body": {"a": "topsecret"}}


@pytest.mark.parametrize("make", [
    lambda: ask("POST", "/timer", GOOD | {"hours": 1} | SECRETS).json()["id"],
    lambda: ask(
        "POST", "/timer", GOOD | {"hours": 1, "key": "k"} | SECRETS
    ).json()["id"],
    lambda: put(GOOD | {"hours": 1} | SECRETS),
    put_twice, patched, in_bulk,
])
def test_however_a_timer_is_made_it_is_sealed(make: Any) -> None:
    timer_id = UUID(make())
    assert not is_told()
    assert row(timer_id)["encrypted_with"] == "a"
    found = looking.definition(OWNER, timer_id)
    assert found is not None
    assert found[2].request.headers == {"X-Secret": "topsecret"}
    assert found[2].request.body == b'{"a":"topsecret"}'


def test_a_change_keeps_what_it_does_not_name() -> None:
    timer_id = secret_timer(3600)
    answer = ask("PATCH", f"/timer/{timer_id}", {"max_lateness": 60})
    assert answer.status_code == 200
    found = looking.definition(OWNER, timer_id)
    assert found is not None
    assert found[2].request == REQUEST
    # A move alone leaves the row's values as they are.
    before = row(timer_id)
    ask("PATCH", f"/timer/{timer_id}", LATER)
    after = row(timer_id)
    assert after["body"] == before["body"]
    assert after["encrypted_with"] == "a"


def test_what_has_no_secrets_names_no_key() -> None:
    with_some, plain = secret_timer(3600), new_timer(3600)
    assert row(plain)["encrypted_with"] is None
    # When its headers and body are removed
    ask("PATCH", f"/timer/{with_some}", {"headers": None, "body": None})
    found = row(with_some)
    assert (found["headers"], found["body"]) == (None, None)
    assert found["encrypted_with"] is None


def test_an_empty_body_is_a_body(receiver: Receiver) -> None:
    timer_id = new_timer(
        -1, url=receiver.url(), request=WebhookRequest("POST", None, b"")
    )
    fire.fire(timer_id)
    assert receiver.calls[0].body == b""


def test_what_is_dropped_names_no_key(receiver: Receiver) -> None:
    done, gone = secret_timer(url=receiver.url()), secret_timer(60)
    called(done, receiver)
    changing.cancel(OWNER, gone)
    for timer_id in (done, gone):
        assert row(timer_id)["encrypted_with"] is None


def test_a_replay_sends_the_same(receiver: Receiver) -> None:
    receiver.status = 500
    timer_id = secret_timer(url=receiver.url())
    called(timer_id, receiver)
    assert replaying.replay_one(OWNER, timer_id)
    called(timer_id, receiver)


# --- a key that is lost ------------------------------------------------------


LOST = (
    "invalid: its headers or body: it is encrypted with the key 'a', which is"
    " not among ENCRYPTION_KEYS"
)


def test_a_lost_key_ends_its_timers_alone(
    receiver: Receiver, settings: Settings
) -> None:
    # Given timers of two keys, and one without secrets
    lost = new_timers(2, -1, url=receiver.url(), request=REQUEST)
    settings.ENCRYPTION_KEYS = ONLY_B
    kept = secret_timer(url=receiver.url())
    plain = new_timer(-1, url=receiver.url())

    # When they are claimed together
    answers = claiming.claim([
        ClaimRequest(each, uuid4()) for each in (lost[0], kept, plain, lost[1])
    ])

    # Then those of the lost key end, and say why
    assert [answer is None for answer in answers] == [1, 0, 0, 1]
    for timer_id in lost:
        found = row(timer_id)
        assert (found["outcome"], found["error"]) == ("failed", LOST)
        for path in ("", "/explain", "/attempts"):
            answer = ask("GET", f"/timer/{timer_id}{path}")
            assert answer.status_code == 200, answer.content
        assert LOST in ask("GET", f"/timer/{timer_id}").json()["error"]
        assert ask("GET", f"/dashboard/timer/{timer_id}").status_code == 200

    # When the key is found again, Then a replay sends them
    settings.ENCRYPTION_KEYS = B_THEN_A
    assert replaying.replay_one(OWNER, lost[0])
    called(lost[0], receiver)


def test_what_can_t_be_read_can_be_changed_as_a_whole(
    settings: Settings
) -> None:
    timer_id = secret_timer(3600)
    settings.ENCRYPTION_KEYS = ONLY_B
    answer = ask("PATCH", f"/timer/{timer_id}", {"max_lateness": 60})
    assert answer.status_code == 409
    assert "'a', which is not among" in answer.json()["detail"]
    moved = ask("PATCH", f"/timer/{timer_id}", LATER)
    assert moved.status_code == 200
    assert ask("DELETE", f"/timer/{timer_id}").status_code == 204


def test_an_answer_that_can_t_be_read_hides_no_other(
    receiver: Receiver, settings: Settings
) -> None:
    receiver.status, receiver.answer = 500, b"first"
    timer_id = new_timer(-1, url=receiver.url())
    fire.fire(timer_id)
    settings.ENCRYPTION_KEYS = ONLY_B
    replaying.replay_one(OWNER, timer_id)
    fire.fire(timer_id)
    shown = ask("GET", f"/timer/{timer_id}/attempts").json()["attempts"]
    assert [each["answer"] for each in shown] == [None, "first"]
    assert shown[0]["status_code"] == 500
    assert "answer: it is encrypted with the key 'a'" in shown[0]["error"]


@pytest.mark.parametrize("value", [
    "headers = '\"AAAA\"'", "headers = '\"ä\"'", "headers = '{\"a\": 1}'",
    "body = 'x'", "headers = '5'",
])
def test_a_row_that_was_changed_is_set_aside(value: str) -> None:
    timer_id = secret_timer()
    change(timer_id, value)
    assert claiming.claim([ClaimRequest(timer_id, uuid4())]) == [None]
    found = row(timer_id)
    assert found["outcome"] == "failed"
    assert found["error"].startswith("invalid: its headers or body: ")


def test_values_of_another_row_do_not_open() -> None:
    one, other = new_timers(2, -1, request=REQUEST)
    change(one, f"body = (SELECT body FROM timer WHERE id = '{other}')")
    assert claiming.claim([ClaimRequest(one, uuid4())]) == [None]
    assert "can't be decrypted with the key 'a'" in row(one)["error"]


def test_dispatchers_need_no_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))
    # Given a claim that was answered, and whose worker died
    claim = claimed(secret_timer())
    claiming.mark_sent([Mark(claim.id, claim.token, database_clock(), 500)])
    change(claim.id, "leased_until = now() - interval '1 s'")

    # When a dispatcher without the key looks, Then it finds it
    settings.ENCRYPTION_KEYS = KeyRing()
    (found,) = taking_over.answered(limit=10)
    assert found.status_code == 500
    recording.record_for_the_dead([report(found.claim, Outcome.FAILED)])
    assert row(claim.id)["encrypted_with"] == "a"


# --- rotation ----------------------------------------------------------------


def rotate() -> str:
    output = StringIO()
    call_command("rotate_encryption", stdout=output, stderr=StringIO())
    return output.getvalue()


def keys_of(timer_id: UUID) -> set[str | None]:
    """Return the keys of a timer and its attempts."""
    found = {row(timer_id)["encrypted_with"]}
    return found | {each["encrypted_with"] for each in attempts(timer_id)}


def failed(receiver: Receiver) -> UUID:
    receiver.status, receiver.answer = 500, b"topsecret answer"
    timer_id = secret_timer(url=receiver.url())
    called(timer_id, receiver)
    return timer_id


def test_rotation_leaves_nothing_to_the_old_key(
    receiver: Receiver, settings: Settings
) -> None:
    # Given what is plain, and what has the old key
    settings.ENCRYPTION_KEYS = KeyRing()
    plain = failed(receiver)
    plain_secret = signing.create(OWNER, "v1", AUTHOR)
    settings.ENCRYPTION_KEYS = ONLY_A
    old, without = failed(receiver), new_timer(3600)
    old_secret = signing.create(OWNER, "v1a", AUTHOR)
    signing.forget()

    # When there is a new key
    settings.ENCRYPTION_KEYS = B_THEN_A
    said = rotate()

    # Then it is all that is needed
    assert "with the key b: 2 signing secrets" in said
    assert "with the key b: 2 timers" in said
    assert "with the key b: 2 attempts" in said
    assert not is_told()
    settings.ENCRYPTION_KEYS = ONLY_B
    assert keys_of(plain) == keys_of(old) == {"b"}
    assert keys_of(without) == {None}
    for timer_id in (plain, old):
        assert looking.attempts(OWNER, timer_id)[0].answer == receiver.answer
        assert replaying.replay_one(OWNER, timer_id)
        called(timer_id, receiver)
    assert {each.id for each in signing.list_secrets()} == {
        plain_secret.id, old_secret.id
    }
    signing.forget()
    assert len(signing.keys_of(OWNER).private_keys) == 1

    # And once more there is nothing to do
    assert "with the key b: 0 timers" in rotate()


def test_rotation_can_go_back_to_plain(
    receiver: Receiver, settings: Settings
) -> None:
    timer_id = failed(receiver)
    settings.ENCRYPTION_KEYS = PLAIN
    assert "Decrypted: 1 timers" in rotate()
    assert keys_of(timer_id) == {None}
    settings.ENCRYPTION_KEYS = KeyRing()
    assert replaying.replay_one(OWNER, timer_id)
    called(timer_id, receiver)
    assert looking.attempts(OWNER, timer_id)[0].answer == receiver.answer
    with pytest.raises(CommandError, match="put `plain,` before them"):
        rotate()


def test_rotation_goes_on_after_what_it_can_t_read(
    receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given pages of two rows, and a timer in the middle with a lost key
    monkeypatch.setattr(rotating, "_BATCH", 2)
    first, lost, last = (failed(receiver) for _ in range(3))
    change(lost, "encrypted_with = 'lost'")
    settings.ENCRYPTION_KEYS = B_THEN_A
    with pytest.raises(CommandError, match="1 could not be read"):
        rotate()
    assert keys_of(first) == keys_of(last) == {"b"}
    assert row(lost)["encrypted_with"] == "lost"


def test_rotation_goes_on_where_it_was_interrupted(
    receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = new_timers(5, 3600, request=REQUEST)
    settings.ENCRYPTION_KEYS = B_THEN_A
    monkeypatch.setattr(rotating, "_BATCH", 2)
    renew, calls = rotating._renew_timers, []

    def interrupted(*args: Any) -> int:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return renew(*args)

    monkeypatch.setattr(rotating, "_renew_timers", interrupted)
    with suppress(KeyboardInterrupt):
        rotate()
    keys = [row(each)["encrypted_with"] for each in timers]
    assert sorted(keys) == ["a", "a", "a", "b", "b"]
    assert "with the key b: 3 timers" in rotate()


def test_rotation_walks_through_pages(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_timers(7, 3600, request=REQUEST)
    settings.ENCRYPTION_KEYS = B_THEN_A
    for name in ("_TIMERS", "_ATTEMPTS"):
        query = getattr(rotating, name).replace(f"{rotating._PAGE}", "3")
        monkeypatch.setattr(rotating, name, query)
    monkeypatch.setattr(rotating, "_PAGE", 3)
    steps = list(rotating.timers(B_THEN_A))
    assert [step.done for step in steps] == [3, 3, 1]


def test_rotation_undoes_no_change_beside_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a timer that a walk has found, and whose request then changed
    changed, ended = new_timers(2, 3600, request=REQUEST)
    settings.ENCRYPTION_KEYS = B_THEN_A
    renew = rotating._renew_timers

    def meanwhile(*args: Any) -> int:
        ask("PATCH", f"/timer/{changed}", SECRETS | {"headers": {"X": "new"}})
        changing.cancel(OWNER, ended)
        return renew(*args)

    monkeypatch.setattr(rotating, "_renew_timers", meanwhile)
    rotate()
    found = looking.definition(OWNER, changed)
    assert found is not None
    assert found[2].request.headers == {"X": "new"}
    assert row(ended)["body"] is None
    assert row(ended)["encrypted_with"] is None

"""Erasing: what is gone, what stays, and what is refused."""

import re
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from apps.accounts.log import LoggedChange
from apps.timers import erasing
from apps.timers.firing import fire
from apps.timers.models import Outcome
from apps.timers.storage import changing, recording
from apps.timers.storage import erasing as storage
from tests.support.accounts import AUTHOR, OWNER, account, ask, key_of
from tests.support.poison import seal
from tests.support.receiver import Receiver
from tests.support.rows import (
    attempts,
    change,
    claimed,
    new_timer,
    report,
    row,
)
from tests.support.timers import value_of

pytestmark = pytest.mark.usefixtures("clean_rows", "local_calls")

SECRET = "topsecret"
TABLES = (
    "timer", "attempt", "event", "timer_label", "timer_key",
)


def contents() -> str:
    """Return all that Postgres has of timers."""
    return "".join(
        str(value_of(f"SELECT string_agg(t::text, ' ') FROM {table} AS t"))
        for table in TABLES
    )


def is_told(text: str = SECRET) -> bool:
    found = contents()
    return text in found or text.encode().hex() in found


def erase(*args: str) -> str:
    output = StringIO()
    call_command("erase", *args, stdout=output)
    return output.getvalue()


def named(seconds: int, receiver: Receiver, **changes: Any) -> UUID:
    """Set a timer that tells in many places."""
    answer = ask("POST", "/timer", {
        "hours": 0, "minutes": 0, "seconds": seconds,
        "url": receiver.url(f"/{SECRET}?{SECRET}#x"),
        "headers": {"X-Secret": SECRET}, "body": {"a": SECRET},
        "labels": {"user": f"{SECRET}-17", "b": SECRET},
    } | changes)
    assert answer.status_code == 201, answer.content
    return UUID(answer.json()["id"])


LABEL = f"--label=user:{SECRET}-17"
LOGGED = LoggedChange(AUTHOR, "erase", "timers by id")


def failed(receiver: Receiver) -> UUID:
    """Have a timer called, and answered with what is secret."""
    receiver.status, receiver.answer = 500, f"answer {SECRET}".encode()
    timer_id = named(0, receiver, key=f"{SECRET} {uuid4()}")
    fire.fire(timer_id)
    assert row(timer_id)["outcome"] == "failed"
    return timer_id


def test_what_is_erased_is_in_no_table(receiver: Receiver) -> None:
    # Given a timer that failed, with all that can tell
    timer_id = failed(receiver)
    change(timer_id, f"error = 'protocol: {SECRET}: x'")
    value_of(f"UPDATE attempt SET error = 'protocol: {SECRET}' RETURNING 1")
    before, (attempt,) = row(timer_id), attempts(timer_id)
    assert is_told()

    # When it is erased
    said = erase(LABEL)
    assert said.splitlines() == [
        "Found: 1 timers, 0 of which have not ended.", "Erased: 1 timers.",
    ]

    # Then nothing tells any more, and the skeleton is there
    assert not is_told()
    found, (tried,) = row(timer_id), attempts(timer_id)
    kept = (
        "id", "account_id", "host", "method", "created_at", "due_at",
        "fired_at", "sent_at", "outcome", "status_code", "attempts", "claims",
    )
    for name in kept:
        assert found[name] == before[name]
    assert found["url"] == receiver.url("/")
    assert found["erased_at"] > found["fired_at"]
    assert (found["error"], tried["error"]) == ("protocol", "protocol")
    for name in ("number", "due_at", "sent_at", "status_code", "duration"):
        assert tried[name] == attempt[name]
    assert value_of("SELECT count(*) FROM timer_key") == 0
    assert value_of("SELECT count(*) FROM timer_label") == 0

    # And it can be looked at, everywhere
    for path in ("", "/explain", "/attempts"):
        assert ask("GET", f"/timer/{timer_id}{path}").status_code == 200
    page = ask("GET", f"/dashboard/timer/{timer_id}").text
    assert "It was erased" in page
    assert "Replay" not in page
    said = ask("GET", f"/timer/{timer_id}/explain").json()
    assert "can't be replayed" in said["summary"]
    assert said["events"][-1]["what"] == "erased"


@pytest.mark.parametrize("url", [
    "https://user:secret@example.com:8443/a?b#c", "http://[::1]:8000?a",
    "HTTP://example.com\\a", "https://example.com", "not a URL at all",
    "", "https://", "ftp://a.example/\nsecond line",
])
def test_of_a_url_the_host_stays(url: str) -> None:
    timer_id = new_timer(60)
    changing.cancel(OWNER, timer_id)
    value_of("UPDATE timer SET url = %s RETURNING 1", url)
    erase(f"--id={timer_id}")
    left = row(timer_id)["url"]
    assert re.fullmatch(r"(\w+://[^/?#\\@\s]*/)?", left), left
    assert url.startswith("not") or not url or left


def test_it_is_not_replayed(receiver: Receiver) -> None:
    timer_id = failed(receiver)
    erase(f"--id={timer_id}")
    calls = len(receiver.calls)
    answer = ask("POST", f"/timer/{timer_id}/replay")
    assert answer.status_code == 409
    assert "was erased" in answer.json()["detail"]
    many = ask("POST", "/timers/replay", {"ids": [str(timer_id)]})
    assert many.json()["replayed"] == 0
    pressed = ask("POST", f"/dashboard/timer/{timer_id}/replay")
    assert pressed.status_code == 409
    assert row(timer_id)["outcome"] == "failed"
    assert len(receiver.calls) == calls


def test_a_late_record_brings_nothing_back() -> None:
    # Given a timer that is unknown, whose worker lives
    claim = claimed(new_timer(-1))
    recording.record([report(claim, Outcome.UNKNOWN)])
    erase(f"--id={claim.id}")
    assert recording.record([report(claim)]) == [False]
    assert row(claim.id)["outcome"] == "unknown"


def test_it_is_erased_once(receiver: Receiver) -> None:
    timer_id = failed(receiver)
    erase(f"--id={timer_id}")
    before = row(timer_id)
    assert "Erased: 0 timers" in erase(f"--id={timer_id}")
    assert row(timer_id) == before


def test_the_key_is_free_and_another_s_stays(receiver: Receiver) -> None:
    # Given two timers that had one key; the second one has it
    receiver.status = 500
    first = named(0, receiver, key="k")
    fire.fire(first)
    second = named(3600, receiver, key="k", labels={"user": "18"})
    erase(f"--id={first}")
    assert ask("GET", "/timer/by-key/k").json()["id"] == str(second)
    assert row(second)["labels"] == {"user": "18"}
    assert value_of("SELECT count(*) FROM timer_label") == 1


def test_what_has_not_ended_is_named_and_nothing_is_erased(
    receiver: Receiver
) -> None:
    done, waits = failed(receiver), named(3600, receiver)
    before = contents()
    with pytest.raises(CommandError) as raised:
        erase(LABEL)
    assert f"{waits} have not ended. Nothing was erased" in str(raised.value)
    assert str(done) not in str(raised.value)
    assert contents() == before

    # Also a dry run changes nothing
    said = erase(LABEL, "--cancel", "--dry-run")
    assert said.splitlines() == [
        "Found: 2 timers, 1 of which have not ended.", "Nothing was changed.",
    ]
    assert contents() == before

    # When it may be cancelled, Then it is, and all is gone
    assert "Erased: 2 timers" in erase(LABEL, "--cancel")
    assert row(waits)["outcome"] == "cancelled"
    assert not is_told()


def test_what_is_being_called_is_left_and_named(receiver: Receiver) -> None:
    done, called = failed(receiver), named(0, receiver)
    claim = claimed(called)
    with pytest.raises(CommandError, match=f"{called} could not be cancelled"):
        erase(LABEL, "--cancel")
    assert row(done)["erased_at"] is not None
    assert row(called)["body"] is not None
    recording.record([report(claim, Outcome.FAILED)])
    erase(LABEL)
    assert not is_told()


def test_others_are_left_alone(receiver: Receiver) -> None:
    mine = failed(receiver)
    other = failed(receiver)
    theirs = account("theirs")
    change(other, f"account_id = {theirs}")
    for table in ("timer_label", "timer_key"):
        value_of(
            f"UPDATE {table} SET account_id = {theirs}"
            f" WHERE timer_id = '{other}' RETURNING 1"
        )
    before = row(other)
    erase(LABEL)
    assert "Found: 0 timers" in erase(f"--id={other}")
    assert storage.erase(OWNER, [other], LOGGED) == set()
    assert row(mine)["erased_at"] is not None
    assert row(other) == before
    assert "Erased: 1 timers" in erase(LABEL, "--account=theirs")
    assert not is_told()


def test_many_are_erased_page_by_page(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "PAGE", 2)
    for _ in range(5):
        named(3600, receiver)
    assert "Erased: 5 timers" in erase(LABEL, "--cancel")
    assert not is_told()


def test_a_row_that_can_t_be_written_costs_only_itself(
    receiver: Receiver
) -> None:
    bad, good = failed(receiver), failed(receiver)
    seal(bad)
    assert "Erased: 1 timers" in erase(LABEL)
    assert row(good)["erased_at"] is not None
    assert row(bad)["erased_at"] is None


@pytest.mark.parametrize(("args", "sentence"), [
    ([], "one of the arguments --label --id is required"),
    (["--label", "user"], "invalid"),
    (["--id", "17"], "invalid UUID value"),
    (["--label", "user:17", "--account", "none"], "no account none"),
])
def test_the_command_names_a_mistake(args: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        erase(*args)


# --- the API -----------------------------------------------------------------


def test_the_api_erases(receiver: Receiver, settings: Settings) -> None:
    done, waits = failed(receiver), named(3600, receiver)
    settings.REQUIRE_API_KEY = True
    admin = key_of(OWNER, ["admin"])
    label = LABEL.removeprefix("--label=")

    def asked(**body: Any) -> Any:
        answer = ask("POST", "/timers/erase", body, key=admin)
        assert answer.status_code == 200, answer.content
        return answer.json()

    left = {"not_ended": [str(waits)], "has_more": False}
    assert asked(label=label, dry_run=True) == {
        "found": 2, "erased": 0, **left
    }
    assert row(done)["erased_at"] is None
    assert asked(label=label) == {"found": 2, "erased": 1, **left}
    assert asked(ids=[str(waits), str(uuid4())], cancel=True) == {
        "found": 1, "erased": 1, "not_ended": [], "has_more": False
    }
    assert not is_told()
    writes = ask(
        "POST", "/timers/erase", {"label": label}, key=key_of(OWNER, ["write"])
    )
    assert writes.status_code == 403


def test_the_api_says_that_there_is_more(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "PAGE", 2)
    for _ in range(3):
        named(3600, receiver)
    label = LABEL.removeprefix("--label=")
    for found, has_more in ((2, True), (1, False), (0, False)):
        body = {"label": label, "cancel": True}
        answer = ask("POST", "/timers/erase", body).json()
        assert (answer["found"], answer["has_more"]) == (found, has_more)
        assert answer["erased"] == found


@pytest.mark.parametrize("body", [
    {}, {"ids": [], "cancel": True}, {"label": "user"}, {"label": 5},
    {"ids": [str(uuid4())], "label": "user:17"},
    {"label": "user:17", "cancel": 1},
])
def test_the_api_names_a_mistake(body: dict[str, Any]) -> None:
    answer = ask("POST", "/timers/erase", body)
    assert answer.status_code == 422, answer.content

"""A receiver that can't be connected to got nothing: it is tried again."""

import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from pytest_django import Settings

from apps.broker.middleware import LeaveUnacknowledged
from apps.core.processes import PerProcess
from apps.timers.firing import call, claims, fire
from apps.timers.firing.call import Call
from apps.webhooks.client import WebhookClient, from_settings
from apps.webhooks.results import Result
from tests.support.postgres_switch import PostgresSwitch
from tests.support.receiver import Receiver
from tests.support.rows import (
    change,
    claimed,
    database_clock,
    new_timer,
    row,
)

pytestmark = pytest.mark.usefixtures("local_calls")


def fire_again(timer_id: UUID) -> None:
    """Fire a timer whose next time has come, without waiting for it."""
    change(timer_id, "next_at = now()")
    fire.fire(timer_id)


def test_a_refused_call_is_made_once_the_receiver_listens(
    absent: Receiver,
) -> None:
    # Given a receiver that refuses connections
    timer_id = new_timer(-1, url=absent.url(), queued=True)
    due_at, until = row(timer_id)["due_at"], None

    # When its timer is fired, Then it waits, longer each time
    for failures, least in ((1, 0.5), (2, 1), (3, 2)):
        now = database_clock()
        fire_again(timer_id)
        found = row(timer_id)
        assert found["connect_failures"] == failures
        assert found["error"].startswith("refused: ")
        assert [found[name] for name in (
            "fired_at", "sent_at", "outcome", "queued_at", "leased_until",
        )] == [None] * 5
        assert found["due_at"] == due_at
        wait = (found["next_at"] - now).total_seconds()
        assert least <= wait < 2 * least + 2
        # Until when it is tried was decided at the first failure.
        until = until or found["retry_until"]
        assert found["retry_until"] == until
        assert now < until - timedelta(minutes=14.9)

    # When the receiver listens, Then it is called, once
    absent.listen()
    fire_again(timer_id)
    fire.fire(timer_id)
    assert absent.counts() == {str(timer_id): 1}
    (call,) = absent.calls
    assert call.headers["webhook-id"] == str(timer_id)
    assert call.headers["timer-attempt"] == "4"
    assert call.headers["timer-due-at"] == due_at.isoformat()
    found = row(timer_id)
    assert (found["outcome"], found["error"]) == ("delivered", None)
    assert found["sent_at"] is not None


Trouble = Callable[[Receiver, Receiver, Receiver], str]
TROUBLES: dict[str, Trouble] = {
    "refused": lambda absent, _, deaf: absent.url(),
    "dns": lambda absent, _, deaf: "http://nowhere.example/",
    "tls": lambda absent, plain, deaf: plain.url().replace("http", "https"),
    "connect_timeout": lambda absent, _, deaf: deaf.url(),
}


def no_name(host: str) -> Sequence[str]:
    """Know no name, as getaddrinfo() says it."""
    raise socket.gaierror(socket.EAI_NONAME, f"{host}: not known")


@pytest.fixture
def deaf() -> Iterator[Receiver]:
    receiver = Receiver(deaf=True)
    yield receiver
    receiver.listen()
    receiver.close()


@pytest.mark.parametrize("kind", TROUBLES)
def test_whatever_kept_the_request_from_leaving_is_tried_again(
    kind: str, absent: Receiver, receiver: Receiver, deaf: Receiver,
    settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a way to a receiver that ends before it
    settings.WEBHOOK_TIMEOUT = 0.5
    client = WebhookClient(from_settings(), no_name)
    monkeypatch.setattr(call, "client", PerProcess(lambda: client))
    timer_id = new_timer(-1, url=TROUBLES[kind](absent, receiver, deaf))

    # When its timer is fired, Then it is postponed, and says why
    fire.fire(timer_id)
    found = row(timer_id)
    assert (found["outcome"], found["connect_failures"]) == (None, 1)
    assert found["error"].startswith(f"{kind}: ")
    assert (found["fired_at"], found["sent_at"]) == (None, None)
    assert receiver.calls == []


@pytest.mark.parametrize(
    ("left", "is_final"), [("0.4 s", True), ("30 s", False)]
)
def test_it_is_tried_for_so_long_then_has_failed(
    absent: Receiver, left: str, is_final: bool
) -> None:
    # Given a timer that failed before, and until when it is tried
    timer_id = new_timer(-1, url=absent.url())
    change(timer_id, f"connect_failures = 3, retry_until = now() + '{left}'")

    # When it is refused again, Then only the patience decides
    fire.fire(timer_id)
    found = row(timer_id)
    assert found["outcome"] == ("failed" if is_final else None)
    assert found["connect_failures"] == (3 if is_final else 4)
    assert found["error"].startswith("refused: ")
    assert found["sent_at"] is None


def test_without_patience_the_first_failure_is_final(
    absent: Receiver, settings: Settings
) -> None:
    settings.WEBHOOK_CONNECT_RETRY_SECONDS = 0
    timer_id = new_timer(-1, url=absent.url())
    fire.fire(timer_id)
    found = row(timer_id)
    assert (found["outcome"], found["connect_failures"]) == ("failed", 0)
    assert found["error"].startswith("refused: ")


def test_a_claim_taken_over_meanwhile_is_not_postponed(
    absent: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a call whose claim comes to be another's while it is tried
    timer_id = new_timer(-1, url=absent.url())
    send = Call._send

    def call_slowly(call: Call) -> Result:
        change(timer_id, "claim_token = NULL, fired_at = NULL")
        taken.append(claimed(timer_id))
        return send(call)

    taken: list[object] = []
    monkeypatch.setattr(Call, "_send", call_slowly)

    # When it is refused, Then the other's claim stands
    fire.fire(timer_id)
    assert row(timer_id)["fired_at"] is not None
    assert row(timer_id)["connect_failures"] == 0


def test_putting_off_waits_for_postgres(
    absent: Receiver, postgres: PostgresSwitch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a call that is refused when Postgres has gone
    timer_id = new_timer(-1, url=absent.url())
    send = Call._send

    def call_and_lose_postgres(call: Call) -> Result:
        postgres.goes_away()
        claims.stopping.set()
        return send(call)

    monkeypatch.setattr(Call, "_send", call_and_lose_postgres)
    monkeypatch.setattr(claims, "_LAST_WORD", 0.5)

    # When the process stops meanwhile, Then its message is left
    with pytest.raises(LeaveUnacknowledged):
        fire.fire(timer_id)
    postgres.comes_back()
    assert row(timer_id)["leased_until"] is not None
    assert row(timer_id)["outcome"] is None

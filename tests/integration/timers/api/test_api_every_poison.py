"""No row, whatever it holds, makes an answer about its timer a 500."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from tests.support.poison import (
    POISONS,
    STUCK_CLAIMS,
    STUCK_WAITING,
    seal,
    unseal,
)
from tests.support.rows import change, claimed, given_up, new_timer

pytestmark = pytest.mark.usefixtures("clean_rows")

_POISONS = {
    **{name: sql for name, (sql, _) in POISONS.items()},
    **{f"claim: {name}": sql for name, (sql, _) in STUCK_CLAIMS.items()},
    **{f"waiting: {name}": sql for name, sql in STUCK_WAITING.items()},
    "none": "url = url",
}

_STATES: dict[str, Callable[[], UUID]] = {
    "waiting": lambda: new_timer(-5),
    "near": lambda: new_timer(5, queued=True),
    "firing": lambda: claimed(new_timer(-5)).id,
    "ended": lambda: given_up().id,
}

_LATEST = "9999-12-31T00:00:00Z"

#: What touches a timer, given its id.
_REQUESTS: dict[str, Callable[[Client, UUID], Any]] = {
    "look": lambda client, each: client.get(f"/timer/{each}"),
    "head": lambda client, each: client.head(f"/timer/{each}"),
    "attempts": lambda client, each: client.get(f"/timer/{each}/attempts"),
    "explain": lambda client, each: client.get(f"/timer/{each}/explain"),
    "list": lambda client, each: client.get("/timers"),
    "list after": lambda client, each: client.get(f"/timers?after={each}"),
    "cancel": lambda client, each: client.delete(f"/timer/{each}"),
    "replay": lambda client, each: client.post(f"/timer/{each}/replay"),
    "replay some": lambda client, each: client.post(
        "/timers/replay", {"ids": [str(each)]}, "application/json"
    ),
    "replay after": lambda client, each: client.post(
        "/timers/replay", {"to": _LATEST, "after": str(each)},
        "application/json",
    ),
    "replay all": lambda client, each: client.post(
        "/timers/replay", {"to": _LATEST}, "application/json"
    ),
}


@pytest.fixture
def lenient() -> Client:
    """Return a client to which a fault is an answer, as it is outside."""
    return Client(raise_request_exception=False)


def wrong(client: Client, timer_id: UUID) -> dict[str, object]:
    """Return the requests that are not answered as they should be."""
    found: dict[str, object] = {}
    for name, request in _REQUESTS.items():
        answer = request(client, timer_id)
        if answer.status_code not in (200, 202, 204, 409):
            found[name] = answer.status_code
        elif answer.status_code == 409 and not answer.json()["detail"]:
            found[name] = answer.content
    return found


@pytest.mark.parametrize("poison", _POISONS)
def test_every_poison_is_answered(lenient: Client, poison: str) -> None:
    for state, make in _STATES.items():
        timer_id = make()
        change(timer_id, _POISONS[poison])
        assert wrong(lenient, timer_id) == {}, state


@pytest.mark.parametrize("state", _STATES)
def test_a_row_that_nobody_can_write_is_answered(
    lenient: Client, state: str
) -> None:
    timer_id = _STATES[state]()
    seal(timer_id)
    assert wrong(lenient, timer_id) == {}


_WHY = (
    'The timer\'s row can\'t be changed: new row for relation "timer"'
    ' violates check constraint "a row that nobody can write". Mend the row'
    " in Postgres."
)


def test_what_keeps_a_timer_from_being_cancelled_is_said(
    client: Client,
) -> None:
    timer_id = new_timer(100)
    seal(timer_id)
    answer = client.delete(f"/timer/{timer_id}")
    assert answer.status_code == 409
    assert answer.json() == {"detail": _WHY, "errors": []}
    assert client.get(f"/timer/{timer_id}").json()["status"] == "scheduled"
    unseal()
    assert client.delete(f"/timer/{timer_id}").status_code == 204


def test_what_keeps_a_timer_from_being_replayed_is_said(
    client: Client,
) -> None:
    timer_id, other = given_up().id, given_up().id
    seal(timer_id)
    answer = client.post(f"/timer/{timer_id}/replay")
    assert answer.status_code == 409
    assert answer.json() == {"detail": _WHY, "errors": []}
    many = client.post(
        "/timers/replay", {"ids": [str(timer_id), str(other)]},
        "application/json",
    )
    assert many.json()["not_replayed"] == [str(timer_id)]
    unseal()
    assert client.post(f"/timer/{timer_id}/replay").status_code == 202

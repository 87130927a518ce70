"""DELETE /timer/{id}: what can be cancelled, and what is said if not."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from tests.support.rows import change, new_timer, row


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def delete(timer_id: object) -> Any:
    client = Client(raise_request_exception=False)
    return client.delete(f"/timer/{timer_id}")


def status(timer_id: UUID) -> str:
    return str(Client().get(f"/timer/{timer_id}").json()["status"])


CLAIMED = "fired_at = now(), claim_token = gen_random_uuid()"


@pytest.mark.parametrize(
    ("seconds", "state", "before"),
    [
        (3600, "queued_at = NULL", "scheduled"),
        (30, "queued_at = now()", "scheduled"),
        (-5, "queued_at = now()", "scheduled"),
        (-5, "attempts = 1, error = 'refused: x'", "retrying"),
        (-5, "claims = 1", "retrying"),  # a worker died before the call
    ],
)
def test_a_timer_that_waits_is_cancelled_for_good(
    seconds: float, state: str, before: str
) -> None:
    # Given a timer that waits
    timer_id = new_timer(seconds)
    change(timer_id, state)
    assert status(timer_id) == before

    # When it is cancelled, once and again
    for _ in range(2):
        answer = delete(timer_id)
        assert (answer.status_code, answer.content) == (204, b"")

        # Then it is, and was never fired
        assert status(timer_id) == "cancelled"
        found = row(timer_id)
        assert (found["fired_at"], found["sent_at"]) == (None, None)


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (CLAIMED, "firing"),
        (f"{CLAIMED}, sent_at = now()", "firing"),
        (f"{CLAIMED}, connect_failures = 1", "firing"),
        (f"{CLAIMED}, outcome = 'delivered', status_code = 200", "delivered"),
        (f"{CLAIMED}, outcome = 'failed', status_code = 500", "failed"),
        (f"{CLAIMED}, outcome = 'failed', error = 'refused: x'", "failed"),
        (f"{CLAIMED}, outcome = 'unknown', sent_at = now()", "unknown"),
        # Sent, its worker lost, and waiting to be sent once more
        ("sent_at = now(), at_least_once = true, claims = 1", "retrying"),
    ],
)
def test_a_timer_that_has_fired_is_not_cancelled(
    state: str, after: str
) -> None:
    # Given a timer that was claimed, and what came of that
    timer_id = new_timer(-5)
    change(timer_id, state)
    before = row(timer_id)

    # When it is to be cancelled, Then the answer is no, and all stays
    answer = delete(timer_id)
    assert answer.status_code == 409
    assert answer.json() == {
        "detail": "The timer has fired; it can't be cancelled.", "errors": [],
    }
    assert row(timer_id) == before
    assert status(timer_id) == after


@pytest.mark.parametrize(
    ("timer_id", "code"),
    [(str(uuid4()), 404), ("5", 422), ("%00", 422), ("x" * 3000, 422)],
)
def test_an_id_that_is_unknown_or_none(timer_id: str, code: int) -> None:
    answer = delete(timer_id)
    assert answer.status_code == code
    error = answer.json()
    if code == 404:
        assert timer_id in error["detail"]
    else:
        assert [each["field"] for each in error["errors"]] == ["timer_uuid"]
        assert "UUID" in error["errors"][0]["message"]

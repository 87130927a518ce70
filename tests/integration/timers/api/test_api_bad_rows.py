"""What the API says of rows that can't be used, and of endless replays."""

import pytest
from django.test import Client

from apps.timers.storage import replaying
from tests.support.poison import POISONS
from tests.support.rows import change, given_up, new_timer

pytestmark = pytest.mark.usefixtures("db_pool")


@pytest.mark.parametrize("poison", POISONS)
def test_a_bad_row_is_shown(poison: str, client: Client) -> None:
    waiting, ended = new_timer(-5), given_up().id
    for timer_id in (waiting, ended):
        change(timer_id, POISONS[poison][0])
        for path in (f"/timer/{timer_id}", f"/timer/{timer_id}/attempts"):
            assert client.get(path).status_code == 200
    for query, expected in (
        ("", {waiting, ended}),
        ("?order=desc", {waiting, ended}),
        ("?status=failed", {ended}),
    ):
        answer = client.get(f"/timers{query}")
        assert answer.status_code == 200
        found = [each["id"] for each in answer.json()["timers"]]
        assert sorted(found) == sorted(map(str, expected))


def test_what_cannot_be_read_is_named(client: Client) -> None:
    timer_id = new_timer(100)
    change(timer_id, "retry = '{\"x\": 1}', due_at = '12000-01-01'")
    found = client.get(f"/timer/{timer_id}").json()
    assert found["status"] == "scheduled"
    assert found["error"].startswith("invalid: due_at is 12000-01-01")
    assert found["retry"] is None


def test_a_policy_beyond_the_bounds_is_shown(client: Client) -> None:
    timer_id = new_timer(100)
    change(
        timer_id,
        "retry = '{\"max_attempts\": 99, \"min_delay\": 0, \"max_delay\": 1,"
        " \"unanswered\": false}'",
    )
    found = client.get(f"/timer/{timer_id}").json()
    assert found["retry"]["max_attempts"] == 99
    assert found["error"] is None


def test_a_timer_that_is_far_away_is_shown(client: Client) -> None:
    timer_id = new_timer(30_000 * 86_400)
    found = client.get(f"/timer/{timer_id}").json()
    assert 29_999 * 86_400 < found["time_left"] <= 30_000 * 86_400


def test_replays_of_one_timer_are_bounded(client: Client) -> None:
    often = given_up().id
    change(often, f"attempts = {replaying.MOST_ATTEMPTS}")
    answer = client.post(f"/timer/{often}/replay")
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "The timer was tried 1,000 times or more, and is not replayed any"
        " more; set a new one."
    )
    many = client.post(
        "/timers/replay", {"ids": [str(often)]}, "application/json"
    )
    assert many.json() == {
        "replayed": 0, "next": None, "not_replayed": [str(often)]
    }

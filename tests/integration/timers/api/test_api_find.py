"""`GET /timers`: each filter finds its timers, in order, page by page."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from pytest_django import Settings

from apps.core.database import connect, pool
from apps.timers.storage import changing, recording
from apps.timers.storage.records import STATUSES
from tests.support.api import look
from tests.support.lists import Pairs, ask, listed, paged
from tests.support.rows import (
    change,
    claimed,
    new_timer,
    new_timers,
    report,
)


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def at(times: Sequence[str]) -> list[str]:
    """Store timers that are due at these times; return their ids."""
    timers = sorted(new_timers(len(times), 300))
    for timer_id, time in zip(timers, times, strict=True):
        moment = f"'2099-01-01T{time}Z'"
        change(timer_id, f"due_at = {moment}, next_at = {moment}")
    return [str(timer_id) for timer_id in timers]


# --- status ----------------------------------------------------------------

# Every state that a row can be in, also those that only SQL by hand makes.
EVERY_STATE = """
INSERT INTO timer (id, url, host, key, created_at, due_at, next_at, outcome,
                   fired_at, leased_until, queued_at, deferred, attempts,
                   claims, sent_at)
SELECT gen_random_uuid(), 'http://a.example:81/', 'a.example', 'key', now(),
       now(), CASE WHEN moved THEN now() + interval '1 s' ELSE now() END,
       outcome, CASE WHEN fired THEN now() END,
       CASE WHEN leased THEN now() END, CASE WHEN queued THEN now() END,
       deferred, attempts, claims, CASE WHEN sent THEN now() END
FROM unnest(ARRAY[NULL, 'delivered', 'failed', 'unknown', 'missed',
                  'cancelled', 'odd']) AS outcome,
     unnest(ARRAY[false, true]) AS fired, unnest(ARRAY[false, true]) AS leased,
     unnest(ARRAY[false, true]) AS queued,
     unnest(ARRAY[false, true]) AS deferred, unnest(ARRAY[0, 1]) AS attempts,
     unnest(ARRAY[0, 1]) AS claims, unnest(ARRAY[false, true]) AS moved,
     unnest(ARRAY[false, true]) AS sent
WHERE NOT (sent AND outcome IS NOT NULL)
"""
LABEL = """
INSERT INTO timer_label (name, value, due_at, timer_id)
SELECT 'all', 'of them', due_at, id FROM timer
"""
FILTERS: dict[str, Pairs] = {
    "none": [],
    "host": [("host", "a.example")],
    "port": [("host", "a.example:81")],
    "key": [("key", "key")],
    "prefix": [("key", "ke*")],
    "label": [("label", "all:of them")],
    "time": [("from", "2020-01-01T00:00:00Z")],
}


@pytest.mark.parametrize("most", [10, 10_000])
def test_each_timer_is_in_the_list_of_its_status_and_in_no_other(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a timer in every state, and labels that are many, or few
    monkeypatch.setattr("apps.timers.storage.finding.MANY", most)
    with connect() as connection:
        connection.execute(EVERY_STATE)
        connection.execute(LABEL)
        count = connection.execute("SELECT count(*) FROM timer").fetchone()
    assert count is not None
    for name, pairs in FILTERS.items():
        # When those of each status are listed
        found: dict[str, str] = {}
        for status in STATUSES:
            page = ask(*pairs, ("status", status), ("limit", 1000)).json()
            assert page["timers"], (name, status)
            for timer in page["timers"]:
                assert timer["id"] not in found, (name, status)
                assert timer["status"] == status, name
                found[timer["id"]] = status

        # Then each is there once, and all of them in the list of all
        assert len(found) == count[0] > 1000
        page = ask(*pairs, ("limit", 1000)).json()
        after = ask(*pairs, ("limit", 1000), ("after", page["next"])).json()
        everything = page["timers"] + after["timers"]
        assert [each["id"] for each in everything] == sorted(found), name
        assert after["next"] is None
    one = everything[0]
    assert look(f"/timer/{one['id']}").json()["status"] == one["status"]


def test_several_statuses_are_one_list() -> None:
    # Given timers of four statuses, due in turn
    timers = at([f"12:00:0{n}" for n in range(4)])
    waits, fails, cancelled, fires = map(UUID, timers)
    changing.cancel(cancelled)
    for timer_id in (fails, fires):
        change(timer_id, "next_at = now()")
    recording.record([report(claimed(fails))])
    claimed(fires)

    # When some are asked for, once or twice, Then they come in order
    asked = [("status", each) for each in ("firing", "scheduled", "firing")]
    assert listed(*asked) == [str(waits), str(fires)]
    assert listed(*asked, ("order", "desc")) == [str(fires), str(waits)]
    page = ask(*asked, ("order", "desc"), ("limit", 1)).json()
    assert page["next"] == str(fires)
    assert listed() == timers


# --- order and pages -------------------------------------------------------


def test_pages_follow_each_other_in_both_directions() -> None:
    # Given timers, three of which are due at the same time
    timers = at(["12:00:01", "12:00:05", "12:00:05", "12:00:05", "12:00:09"])
    change(UUID(timers[2]), "queued_at = now()")
    change(UUID(timers[3]), "deferred = true")
    for pairs in (
        [], [("host", "127.0.0.1")], [("from", "2098-01-01T00:00:00Z")],
        [("status", "scheduled"), ("status", "deferred")],
    ):
        assert paged(*pairs) == timers
        assert paged(*pairs, ("order", "desc")) == timers[::-1]


def test_the_first_time_is_included_and_the_last_is_not() -> None:
    timers = at([f"12:00:0{n}" for n in range(4)])
    bounds = [("from", "2099-01-01T12:00:01Z"), ("to", "2099-01-01T12:00:03Z")]
    for more in ([], [("status", "scheduled")], [("host", "127.0.0.1")]):
        assert listed(*bounds, *more) == timers[1:3]
        assert listed(*bounds, *more, ("order", "desc")) == timers[2:0:-1]
        assert listed(bounds[0], *more, ("after", timers[1])) == timers[2:]


def test_what_moves_between_two_pages_is_where_it_is_now() -> None:
    # Given two pages, the first of which was read
    timers = at([f"12:00:0{n}" for n in range(1, 5)])
    assert paged() == timers
    assert listed(("limit", 2)) == timers[:2]
    after = ("after", timers[1])

    # When one that was shown moves to the end, Then it is shown once more
    moment = "'2099-01-01T13:00:00Z'"
    change(UUID(timers[0]), f"due_at = {moment}, next_at = {moment}")
    assert listed(after) == [*timers[2:], timers[0]]

    # When one that was not shown moves to the front, Then it is not shown
    moment = "'2098-01-01T12:00:00Z'"
    change(UUID(timers[2]), f"due_at = {moment}, next_at = {moment}")
    assert listed(after) == [timers[3], timers[0]]

    # When the one moves that the page ended with, Then the list goes on there
    moment = "'2099-01-01T12:30:00Z'"
    change(UUID(timers[1]), f"due_at = {moment}, next_at = {moment}")
    assert listed(after) == [timers[0]]


def test_what_ends_between_two_pages_keeps_its_place() -> None:
    # Given timers, the first two of which were listed
    timers = at([f"12:00:0{n}" for n in range(1, 6)])
    scheduled = ("status", "scheduled")
    assert listed(scheduled, ("limit", 2)) == timers[:2]

    # When the last of these ends, and one that is still to come
    for timer_id in (timers[1], timers[3]):
        assert changing.cancel(UUID(timer_id))

    # Then the list goes on behind it, and has the other one if it is asked for
    after = ("after", timers[1])
    assert listed(scheduled, after) == [timers[2], timers[4]]
    assert listed(after) == timers[2:]
    assert listed(("status", "cancelled"), after) == [timers[3]]


def test_a_list_does_not_go_on_after_a_timer_that_is_gone() -> None:
    gone = new_timer(300)
    with pool().connection() as connection:
        connection.execute("DELETE FROM timer WHERE id = %s", [gone])
    for timer_id in (gone, uuid4()):
        answer = ask(("after", timer_id), ("status", "scheduled"))
        assert answer.status_code == 422
        assert "`next`" in answer.json()["errors"][0]["message"]


# --- refusals --------------------------------------------------------------

A_HOST, A_LABEL, A_KEY = ("host", "a.b"), ("label", "a:b"), ("key", "a*")
REFUSED: list[tuple[Pairs, str, str]] = [
    ([("status", "gone")], "status.0", "'scheduled'"),
    ([("status", "failed")] * 10, "status", "at most 9"),
    ([("label", "user")], "label.0", "name:value, such as user:17"),
    ([("label", "")], "label.0", "name:value"),
    ([A_LABEL, ("label", ":17")], "label.1", "name:value"),
    ([("label", "User:17")], "label.0", "a-z"),
    ([("label", f"a:{'x' * 256}")], "label.0", "255"),
    ([("label", "a:\0")], "label.0", "U+0000"),
    ([A_LABEL] * 17, "label", "at most 16"),
    ([("key", "")], "key", "1 to 255"),
    ([("key", "*")], "key", "beginning of a key before it"),
    ([("key", "x" * 256)], "key", "1 to 255"),
    ([("key", "a\0*")], "key", "1 to 255"),
    ([("order", "up")], "order", "'asc' or 'desc'"),
    ([("limit", 1001)], "limit", "1000"),
    ([("limit", 0)], "limit", "1"),
    ([("offset", 5)], "offset", "those are host, from, to, label, key"),
    ([A_HOST, A_LABEL], "label", "one more label"),
    ([A_HOST, A_KEY], "key", "give one of them"),
    ([A_LABEL, A_KEY], "key", "give one of them"),
    ([("from", "2026-01-01")], "from", "offset"),
]


def test_what_makes_no_sense_or_has_no_index_is_refused() -> None:
    for pairs, field, words in REFUSED:
        answer = ask(*pairs)
        assert answer.status_code == 422, (pairs, answer.content)
        (error,) = answer.json()["errors"]
        assert error["field"] == field, pairs
        assert words in error["message"], pairs

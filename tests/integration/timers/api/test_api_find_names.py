"""`GET /timers` by labels and keys, whatever characters they have."""

from uuid import UUID

import pytest
from django.test import Client
from pytest_django import Settings

from apps.timers.storage import changing
from tests.support.accounts import OWNER
from tests.support.lists import listed, made, paged


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


# --- labels ----------------------------------------------------------------

VALUES = [
    "17", "", "a:b", ":", "%", "_", "100%_\\", "\\", "'; DROP TABLE timer --",
    '"', "*", "ü", "\U0001f600", " ", "a\nb", "x" * 255,
]


def test_a_label_is_found_by_its_value_and_by_no_other() -> None:
    timers = [made(labels={"v": value}) for value in VALUES]
    for timer_id, value in zip(timers, VALUES, strict=True):
        assert listed(("label", f"v:{value}")) == [timer_id], value
    assert listed(("label", "v:1")) == []
    assert listed(("label", "w:17")) == []


@pytest.mark.parametrize("most", [1, 10_000])
def test_all_labels_must_match(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given timers with some labels of three
    monkeypatch.setattr("apps.timers.storage.finding.MANY", most)
    names = [[], ["a"], ["b"], ["a", "b"], ["a", "b", "c"], ["c"]]
    timers = [
        made(labels=dict.fromkeys(each, "x") or None, seconds=300 + n)
        for n, each in enumerate(names)
    ]
    assert changing.cancel(OWNER, UUID(timers[4]))
    for wanted in (["a"], ["b"], ["a", "b"], ["c", "a"], ["b", "c", "a"]):
        expected = [
            timer_id for timer_id, has in zip(timers, names, strict=True)
            if set(wanted) <= set(has)
        ]
        pairs = [("label", f"{name}:x") for name in wanted]
        # When they are asked for, Then those are found that have all
        assert paged(*pairs) == expected
        assert paged(*pairs, ("order", "desc")) == expected[::-1]
        ended = [each for each in expected if each == timers[4]]
        waits = [each for each in expected if each != timers[4]]
        assert listed(*pairs, ("status", "cancelled")) == ended
        assert paged(*pairs, ("status", "scheduled")) == waits


def test_a_timer_is_found_by_the_labels_that_it_has_now() -> None:
    timer_id = made(labels={"user": "17"}, seconds=300)
    path = f"/timer/{timer_id}"
    for body in (
        {"labels": {"user": "18"}}, {"hours": 1, "minutes": 0, "seconds": 0},
    ):
        answer = Client().patch(path, body, content_type="application/json")
        assert answer.status_code == 200, answer.content
    assert listed(("label", "user:17")) == []
    assert listed(("label", "user:18")) == [timer_id]


# --- keys ------------------------------------------------------------------

KEYS = [
    "order-1", "order-2", "order_1", "Order-1", "order%1", "order\\1",
    "'order'", '"order"', "order*", "order*1", "o", "ü-1", "\U0001f600",
    "\U0010ffff\U0010ffff", "a" * 255,
]


def test_a_key_is_found_whole_or_by_its_beginning() -> None:
    timers = dict(zip(KEYS, (made(key=key) for key in KEYS), strict=True))
    for key, timer_id in timers.items():
        if not key.endswith("*"):
            assert listed(("key", key)) == [timer_id], key
    beginnings = {key[:n] for key in KEYS for n in (1, 3, 5, 6, 7, 255)}
    for beginning in beginnings:
        expected = [timers[key] for key in KEYS if key.startswith(beginning)]
        assert listed(("key", f"{beginning}*")) == expected, beginning
        assert paged(
            ("key", f"{beginning}*"), ("status", "scheduled")
        ) == expected, beginning
    assert listed(("key", "order")) == listed(("key", "x*")) == []


def test_all_timers_that_had_a_key_are_found_by_it() -> None:
    # Given timers that had a key one after the other
    timers = []
    for _ in range(3):
        timers.append(made(key="mine", seconds=300))
        assert changing.cancel(OWNER, UUID(timers[-1]))
    timers.append(made(key="mine", seconds=300))

    # When it is asked for, Then all are there, and by status the right ones
    assert paged(("key", "mine")) == timers
    assert listed(("key", "mine"), ("status", "scheduled")) == timers[3:]
    assert paged(("key", "mine"), ("status", "cancelled")) == timers[:3]

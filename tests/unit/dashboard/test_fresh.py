"""Values that are made at most once in a while."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.dashboard.fresh import Fresh


def test_those_who_ask_at_once_share_a_value() -> None:
    gate = threading.Event()
    made: list[int] = []

    def make(account: int) -> int:
        gate.wait(10)
        made.append(account)
        return len(made)

    fresh = Fresh(make, 60.0)
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(fresh, 1) for _ in range(3)]
        gate.set()
        assert [each.result(10) for each in asked] == [1, 1, 1]
    assert made == [1]


def test_nobody_waits_for_another_account() -> None:
    gate = threading.Event()

    def make(account: int) -> int:
        if account == 1:
            gate.wait(10)
        return account

    fresh = Fresh(make, 60.0)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(fresh, 1)
        assert fresh(2) == 2
        assert not slow.done()
        gate.set()
        assert slow.result(10) == 1


def test_what_can_not_be_made_is_tried_again() -> None:
    answers = iter([0, 1])
    fresh = Fresh(lambda _: 1 // next(answers), 60.0)
    with pytest.raises(ZeroDivisionError):
        fresh(1)
    assert fresh(1) == 1

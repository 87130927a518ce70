"""What was read counts for a while."""

import time

from apps.core.remembered import Remembered


def test_a_value_counts_until_its_time() -> None:
    known: Remembered[str, int] = Remembered(10)
    assert known.get("a") is None
    assert known.last("a") is None
    now = time.monotonic()
    known.keep("a", 0, now + 60)
    known.keep("b", 0, now)

    # Then what is old is no answer, but what was read last
    assert known.get("a") == 0
    assert known.get("b") is None
    assert known.last("b") == 0

    known.forget()
    assert known.get("a") is None
    assert known.last("b") is None


def test_when_it_is_full_it_forgets_all() -> None:
    known: Remembered[int, str] = Remembered(3)
    until = time.monotonic() + 60
    for number in range(4):
        known.keep(number, "read", until)
    assert [known.last(number) for number in range(4)] == [
        None, None, None, "read",
    ]
